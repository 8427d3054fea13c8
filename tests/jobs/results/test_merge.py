"""Merge writes every row once, with its answer or with the reason why it has none."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob, Plan, merge, plan, result_rows, run_folder
from batch_llm.jobs.ledger.records import LedgerWriter, Record
from batch_llm.jobs.messages import speed_line
from batch_llm.jobs.storage.duckdb_session import column_types
from batch_llm.jobs.storage.store import Store
from tests.support.jobs import documents, items, job, prompts, read_lines, whole_run, write_lines
from tests.support.selection import examples

_SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "score": {"type": "number"},
        "count": {"type": ["integer", "null"]},
        "good": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
}
_ANSWER = {"title": "T", "score": 0.5, "count": 3, "good": True, "tags": ["a", "b"]}


def _answer_all(made: Plan, answer: Any = "fine", *, fail: tuple[str, ...] = (), cost: float | None = 0.5) -> None:
    """Write the records into the ledger that running the shards would write."""
    for shard in made.shards:
        with LedgerWriter(Store(made.folder), shard.part) as ledger:
            for item in read_lines(shard.path):
                common: dict[str, Any] = {"id": item["id"], "key": item["key"], "input_tokens": 10, "attempts": 1}
                common |= {"output_tokens": 2, "cost_usd": cost}
                if item["id"] in fail:
                    common |= {"category": "server_error", "error": "down", "retryable": True}
                    ledger.append(Record(**common, status="failed"))
                else:
                    ledger.append(Record(**common, status="succeeded", output=answer))


def _run(made_for: BatchJob, run_id: str = "r", **how: Any) -> Plan:
    made = plan(made_for, run_id)
    _answer_all(made, **how)
    return made


_ROWS = st.lists(
    st.fixed_dictionaries({"text": st.text(min_size=1), "n": st.integers(-100, 100) | st.none()}),
    min_size=1,
    max_size=12,
)


@examples(30)
@given(_ROWS, st.integers(1, 5), st.sampled_from(["jsonl", "parquet"]))
def test_split_then_merge_is_identity(rows: list[dict[str, Any]], shard_size: int, ending: str) -> None:
    """For any rows and shard size, the output has the input's rows in order and unchanged."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        numbered = [{"id": str(number), **row, "text": f"x{row['text']}"} for number, row in enumerate(rows)]
        write_lines(home / "docs.jsonl", *numbered)
        made_for = job(source=f"{home}/docs.jsonl", output=f"{home}/out.{ending}", ledger=name, shard_size=shard_size)
        made = _run(made_for)
        summary = merge(made_for, made)
        assert sum(shard.items for shard in made.shards) == len(rows)
        assert max(shard.items for shard in made.shards) <= shard_size
        found = duckdb.execute(f"SELECT id, text, n::BIGINT FROM '{summary.output}'").fetchall()
        assert found == [(row["id"], row["text"], row["n"]) for row in numbered]
        assert (summary.total_items, summary.succeeded, summary.failed) == (len(rows), len(rows), 0)


@pytest.mark.sample(1)
@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
def test_output_has_the_fields_of_the_answer_with_their_types(home: Path, ending: str) -> None:
    """The columns of the input come first, then those of the answer, then those of the outcome."""
    write_lines(home / "docs.jsonl", {"id": "a", "text": "x", "meta": {"k": [1]}})
    made_for = job(output=f"out{ending}", output_schema=_SCHEMA)
    output = merge(made_for, _run(made_for, answer=_ANSWER)).output
    if ending == ".csv":
        row: dict[str, Any] = next(csv.DictReader(Path(output).read_text(encoding="utf-8").splitlines()))
        assert (row["meta"], row["tags"], row["score"]) == ('{"k":[1]}', '["a","b"]', "0.5")
        return
    with duckdb.connect() as tables:
        types = column_types(tables, f"SELECT * FROM '{output}'")
    names = ["id", "text", "meta", *_ANSWER, "item_id", "status", "input_tokens", "output_tokens", "cost_usd"]
    assert list(types) == [*names, "attempts", "seconds", "error_category", "error", "finish_reason", "call_seconds"]
    if ending == ".parquet":
        assert {name: types[name] for name in _ANSWER} == dict(
            zip(_ANSWER, ["VARCHAR", "DOUBLE", "BIGINT", "BOOLEAN", "JSON"], strict=True)
        )
    else:
        row = read_lines(output)[0]
        assert {name: row[name] for name in _ANSWER} == _ANSWER
        assert row["meta"] == {"k": [1]}
        assert (row["status"], row["input_tokens"], row["cost_usd"], row["error"]) == ("succeeded", 10, 0.5, None)


def test_columns_of_the_input_keep_their_names(home: Path) -> None:
    """An answer's field or an outcome column with the same name is renamed, and the plan reports it."""
    write_lines(home / "docs.jsonl", {"id": "a", "text": "x", "Title": "mine", "status": "open"})
    schema = {"type": "object", "properties": {"title": {"type": "string"}, "error": {"type": "string"}}}
    made_for = job(output_schema=schema)
    made = _run(made_for, answer={"title": "theirs", "error": "none"})
    row = read_lines(merge(made_for, made).output)[0]
    assert (row["Title"], row["answer_title"], row["answer_error"]) == ("mine", "theirs", "none")
    assert (row["status"], row["answer_status"]) == ("open", "succeeded")
    assert "The column 'title' of the answer is called 'answer_title'." in made.notes


@pytest.mark.sample(1)
@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_the_failures_file_is_a_source(home: Path, ending: str) -> None:
    """A run of it calls the failed items again under the same ids; broken rows stay broken and cost nothing."""
    write_lines(home / "docs.jsonl", {"id": "a", "text": "x"}, {"id": "b", "text": "y"}, "nonsense")
    made_for = job(output=f"out{ending}")
    summary = merge(made_for, _run(made_for, fail=("b",)))
    assert (summary.succeeded, summary.failed) == (1, 2)
    assert summary.categories == {"invalid_input": 1, "server_error": 1}
    assert summary.failures == str(home / f"out.failures{ending}")
    again = plan(job(source=summary.failures, output=f"again{ending}"), "r2")
    assert prompts(again) == {"b": "y"}
    assert (again.total, again.broken, again.reused) == (2, 1, 0)
    output = merge(job(source=summary.failures, output="again.jsonl"), again).output
    assert [row["item_id"] for row in read_lines(output)] == ["b", "line 3"]
    assert not {"answer_error", "answer_attempts"} & set(read_lines(output)[0])


@pytest.mark.whole
def test_answers_to_the_failures_file_are_reused_by_the_next_run(home: Path) -> None:
    """Also for rows whose id comes from their content: the failures file keeps the id."""
    write_lines(home / "docs.jsonl", {"text": "x"}, {"text": "y"})
    made = plan(job(), "first")
    failing = items(made)[1]["id"]
    _answer_all(made, fail=(failing,))
    summary = merge(job(), made)
    again = job(source=summary.failures, output="again.jsonl")
    merge(again, _run(again, "second"))
    assert plan(job(), "third").reused == 2


@pytest.mark.sample(1)
@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_answers_to_a_failures_file_count_for_the_whole_source(home: Path, ending: str) -> None:
    """Also for rows whose id comes from their content: in the failures file they keep id and key."""
    failing = {"text": "x", "n": 1, "none": None, "at": "2026-01-02T10:00:00", "code": "007", "list": [1, "é"]}
    other: dict[str, Any] = {"text": "y", "n": 1.5, "none": "some", "at": "some day", "code": "z", "list": []}
    write_lines(home / "docs.jsonl", failing, other, failing)
    prompt = " ".join(f"{{{column}}}" for column in failing)
    made_for = job(prompt=prompt, output=f"out{ending}")
    made = plan(made_for, "first")
    sent = prompts(made)
    failed = {item_id: text for item_id, text in sent.items() if text.startswith("x")}
    _answer_all(made, fail=tuple(failed))
    of_failures = job(prompt=prompt, source=str(merge(made_for, made).failures), output="again.jsonl")
    again = plan(of_failures, "again")
    assert (prompts(again), again.retried) == (failed, len(failed))
    _answer_all(again)
    merge(of_failures, again)
    assert plan(made_for, "next").reused == len(sent)


def test_columns_of_the_input_win_over_outcome_columns(home: Path) -> None:
    """In the failures file, too; rows stay in the order of the source."""
    rows = [{"id": str(n), "text": str(n), "status": f"s{n}", "position": 9 - n, "error": n} for n in range(3)]
    write_lines(home / "docs.jsonl", *rows)
    whole_run("r", fail="1")
    assert [(row["id"], row["status"], row["position"]) for row in read_lines(home / "out.jsonl")] == [
        ("0", "s0", 9),
        ("1", "s1", 8),
        ("2", "s2", 7),
    ]
    (failed,) = read_lines(home / "out.failures.jsonl")
    assert (failed["id"], failed["status"], failed["position"], failed["error"]) == ("1", "s1", 8, 1)
    assert (failed["item_id"], failed["answer_error"]) == ("1", "too slow")
    assert prompts(plan(job(source="out.failures.jsonl", output="again.jsonl"), "again")) == {"1": "1"}


def test_failures_file_is_deleted_if_nothing_fails(home: Path) -> None:
    """A file of yesterday's failures would mislead."""
    write_lines(home / "docs.jsonl", {"id": "a", "text": "x"})
    failing = merge(job(), _run(job(), fail=("a",)))
    assert failing.failures is not None
    assert read_lines(failing.failures) == [
        {"id": "a", "text": "x", "item_id": "a", "error_category": "server_error", "error": "down", "attempts": 1}
    ]
    assert merge(job(), _run(job(), "r2")).failures is None
    assert not Path(failing.failures).exists()


def test_second_run_calls_only_new_and_changed_items(home: Path) -> None:
    """The output has all current rows; the totals have what this run paid for."""
    write_lines(home / "docs.jsonl", {"id": "a", "text": "1"}, {"id": "b", "text": "2"}, {"id": "c", "text": "3"})
    first = merge(job(), _run(job(), "run-1", answer="old", fail=("c",)))
    assert (first.cost_usd, first.total_input_tokens) == (1.5, 30)
    write_lines(home / "docs.jsonl", {"id": "a", "text": "1"}, {"id": "b", "text": "changed"}, {"id": "c", "text": "3"})
    made = plan(job(), "run-2")
    assert prompts(made) == {"b": "changed", "c": "3"}
    assert (made.total, made.reused, made.changed, made.retried, made.new) == (3, 1, 1, 1, 0)
    _answer_all(made, "new")
    second = merge(job(), made)
    assert (second.succeeded, second.reused, second.cost_usd, second.total_input_tokens) == (3, 1, 1.0, 20)
    assert (second.changed, second.retried, second.new, second.saved_usd) == (1, 1, 0, 0.5)
    assert [row["answer"] for row in read_lines(second.output)] == ["old", "new", "new"]
    assert plan(job(), "run-3").shards == ()
    assert len(prompts(plan(job(refresh=True), "run-4"))) == 3
    assert len(prompts(plan(job(name="other"), "run-5"))) == 3
    assert len(prompts(plan(job(instructions="be brief"), "run-6"))) == 3


def test_continued_run_calls_only_items_without_an_answer(home: Path) -> None:
    """As with the Retry button days later: answers of this and other runs count, and totals are this run's."""
    write_lines(home / "docs.jsonl", *({"id": name, "text": name} for name in "abcd"))
    first = plan(job(shard_size=1), "first")
    _answer_all(replace(first, shards=first.shards[:1]))
    _answer_all(replace(first, shards=first.shards[1:2]), fail=("b",))
    between = plan(job(), "between")
    assert prompts(between) == {"b": "b", "c": "c", "d": "d"}
    _answer_all(between, fail=("d",))
    again = plan(job(), "first")
    assert prompts(again) == {"d": "d"}
    assert (again.answered, again.reused, again.new, again.retried) == (1, 2, 1, 1)
    _answer_all(again)
    summary = merge(job(), again)
    assert (summary.succeeded, summary.reused, summary.total_input_tokens) == (4, 2, 30)


def test_only_failed_calls_only_failed_items(home: Path) -> None:
    """New and changed items wait for a full run; the output has all items, with the reason for a missing answer."""
    write_lines(home / "docs.jsonl", *({"id": name, "text": name} for name in "abc"))
    _answer_all(plan(job(), "first"), fail=("b",))
    write_lines(home / "docs.jsonl", *({"id": name, "text": name} for name in "abd"), {"id": "c", "text": "new"}, "{")
    made = plan(job(only_failed=True), "second")
    assert prompts(made) == {"b": "b"}
    assert (made.reused, made.retried, made.left_out, made.broken) == (1, 1, 2, 1)
    _answer_all(made)
    summary = merge(job(only_failed=True), made)
    assert (summary.succeeded, summary.failed, summary.left_out, summary.not_attempted) == (2, 1, 2, 0)
    by_id = {row["id"]: row for row in read_lines(summary.output)}
    assert (
        by_id["d"]["error"]
        == "not selected by only_failed or only_truncated; run the job without them to include this item"
    )


def test_only_failed_and_refresh_exclude_each_other() -> None:
    with pytest.raises(JobError, match="refresh and only_failed cannot be used together: set only one"):
        job(only_failed=True, refresh=True)


def test_a_run_leaves_no_copies_behind(home: Path) -> None:
    """Rows, prompts and answers are in the source, in the output and in the ledger."""
    write_lines(home / "docs.jsonl", {"id": "a", "text": "1"})
    made = plan(job(), "r")
    _answer_all(made)
    merge(job(), made)
    left = {path.name for path in Path(made.folder).iterdir()}
    assert left == {"plan.json", "summary.json", "outcomes.parquet", "ledger", "progress"}


def test_attempts_of_an_item_add_up(home: Path) -> None:
    """Totals include the cost of failed attempts; a success takes precedence over a later failure."""
    write_lines(home / "docs.jsonl", {"id": "a", "text": "1"})
    made = plan(job(), "r")
    _answer_all(made, fail=("a",))
    _answer_all(made, "good")
    _answer_all(made, fail=("a",))
    summary = merge(job(), made)
    row = read_lines(summary.output)[0]
    assert (row["status"], row["answer"], row["attempts"], row["input_tokens"]) == ("succeeded", "good", 3, 30)
    assert (summary.succeeded, summary.total_input_tokens, summary.cost_usd) == (1, 30, 1.5)


def test_continued_run_includes_the_cost_of_all_its_calls(home: Path) -> None:
    """Also calls for a text that has changed since, and for an item that another run has answered meanwhile."""
    write_lines(home / "docs.jsonl", {"id": "a", "text": "1"}, {"id": "b", "text": "2"})
    _answer_all(plan(job(), "r"), fail=("a", "b"))
    merge(job(), _run(job(limit=1), "other"))
    write_lines(home / "docs.jsonl", {"id": "a", "text": "1"}, {"id": "b", "text": "changed"})
    summary = merge(job(), _run(job()))
    assert (summary.succeeded, summary.reused, summary.saved_usd) == (2, 1, 0.5)
    assert (summary.cost_usd, summary.total_input_tokens) == (1.5, 30)


def test_total_cost_is_unknown_if_one_price_is_unknown(home: Path) -> None:
    """The total is None, not 0."""
    write_lines(home / "docs.jsonl", {"id": "a", "text": "1"}, "broken")
    summary = merge(job(), _run(job(), cost=None))
    assert summary.cost_usd is None
    assert read_lines(summary.output)[0]["cost_usd"] is None


def test_output_of_an_interrupted_run_shows_unattempted_items(home: Path) -> None:
    """Items without a record are in the output, as not attempted, and in no failures file."""
    write_lines(home / "docs.jsonl", {"id": "a", "text": "1"})
    summary = merge(job(), plan(job(), "r"))
    assert (summary.not_attempted, summary.failed, summary.failures, summary.cost_usd) == (1, 0, None, 0.0)
    assert read_lines(summary.output)[0]["status"] == "not_attempted"


def test_the_summary_is_a_file(home: Path) -> None:
    """The command reads its report from this file."""
    write_lines(home / "docs.jsonl", {"id": "a", "text": "1"})
    made = _run(job())
    summary = merge(job(), made)
    stored = json.loads((Path(made.folder) / "summary.json").read_text())
    assert (stored["total_items"], stored["output"]) == (1, summary.output)


def test_a_table_shows_failures_first(home: Path) -> None:
    """The other rows follow in the order of the source, up to the limit."""
    write_lines(home / "docs.jsonl", *({"id": str(number), "text": "x"} for number in range(5)))
    made = _run(job(output_schema=_SCHEMA), answer=_ANSWER, fail=("3",))
    merge(job(output_schema=_SCHEMA), made)
    rows = result_rows(run_folder(job(), Path(made.folder).name), 3).results
    assert [row.item_id for row in rows] == ["3", "0", "1"]
    assert rows[0].error_info is not None
    assert (rows[0].error, rows[0].error_info.category) == ("down", "server_error")
    assert rows[1].output == _ANSWER
    assert rows[1].token_usage["input_tokens"] == 10


def test_remote_output_is_written_through_fsspec(home: Path) -> None:
    """It is replaced as a whole, like a local one."""
    write_lines(home / "docs.jsonl", {"id": "a", "text": "1"})
    made_for = job(output="memory://results/out.jsonl")
    assert merge(made_for, _run(made_for)).output == "memory://results/out.jsonl"
    assert plan(job(source="memory://results/out.jsonl"), "r2").total == 1


def test_unwritable_folder_is_reported_before_the_run(home: Path) -> None:
    """The error is raised before the first call; not even root can create files in /proc."""
    write_lines(home / "docs.jsonl", {"id": "a", "text": "1"})
    with pytest.raises(JobError, match=r"/proc/out\.jsonl cannot be written: "):
        plan(job(output="/proc/out.jsonl"), "r")


def test_impossible_output_path_is_reported_before_the_run(home: Path) -> None:
    """A folder of that name, or a file where a folder must be."""
    write_lines(home / "docs.jsonl", {"id": "a", "text": "1"})
    (home / "taken.jsonl").mkdir()
    with pytest.raises(JobError, match=r"taken\.jsonl is a folder: name a file in the folder"):
        plan(job(output="taken.jsonl"), "r")
    with pytest.raises(JobError, match=r"docs\.jsonl/out\.jsonl cannot be written: "):
        plan(job(output="docs.jsonl/out.jsonl"), "r")


def test_outputs_follow_the_umask_and_the_ledger_is_its_owners(home: Path) -> None:
    """The setting ledger_access opens a ledger to a group; tests/jobs/ledger/test_access.py has the rest."""
    documents(home, a="x", b="y")
    before = os.umask(0o027)
    try:
        whole_run("r", fail="b")
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in home.rglob("*") if path.is_file() and path.stem != "docs"}
    ledger = {path for path in modes if ".batch-llm" in path.parts}
    assert {modes[path] for path in ledger} == {0o600}, modes
    assert {modes[path] for path in modes.keys() - ledger} == {0o640}, modes


def test_output_has_the_duration_of_the_last_call_also_of_reused_rows(home: Path) -> None:
    """Other times of a row contain waits and retries."""
    documents(home, a="one")
    for run in ("first", "second"):
        made = plan(job(), run)
        for shard in made.shards:
            with LedgerWriter(Store(made.folder), shard.part) as ledger:
                for item in read_lines(shard.path):
                    ledger.append(
                        Record(item["id"], item["key"], "succeeded", "yes", attempts=1, seconds=9.0, call_seconds=0.25)
                    )
        (row,) = read_lines(merge(job(), made).output)
        assert (row["seconds"], row["call_seconds"]) == (9.0, 0.25)
    assert made.reused == 1


def test_a_run_that_calls_nothing_has_no_speed(home: Path) -> None:
    documents(home, a="one", b="two")
    called, reused = whole_run("first"), whole_run("second")
    assert (called.reused, reused.reused) == (0, 2)
    assert (reused.items_per_second, reused.call_p50_seconds, speed_line(reused)) == (None, None, "")
