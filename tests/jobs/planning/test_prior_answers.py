"""Reuse of earlier answers: by id and key, by another spelling of the id, and by the key only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from batch_llm.jobs import BatchJob, Plan, job_store, merge, plan
from batch_llm.jobs.ledger.records import LedgerWriter, Record
from batch_llm.jobs.results.prune import prune
from tests.support.jobs import age, answer, items, job, read_lines, run_job, write_lines


def _csv(home: Path, stamp: str, rows: int = 6) -> None:
    lines = [f"{stamp},parcel {number}" for number in range(rows)]
    (home / "export.csv").write_text("\n".join(["exported_at,text", *lines]) + "\n", encoding="utf-8")


def _named(made_for: BatchJob, run: str) -> tuple[Plan, list[str]]:
    """Run a job to its end, and return the plan and the ids of its items."""
    made = plan(made_for, run)
    named = [item["id"] for item in items(made)]
    answer(made_for, made)
    merge(made_for, made)
    return made, named


def _export(**settings: Any) -> BatchJob:
    return job(source="export.csv", canary=0, **settings)


def test_change_in_an_unused_column_reuses_all_answers(home: Path) -> None:
    """Rows without an id column get an id from their content; their answers are found by the key."""
    _csv(home, "2026-11-27")
    run_job(_export(), "one")
    _csv(home, "2026-11-28", rows=7)
    made, named = _named(_export(), "two")
    assert (made.reused, made.new, made.changed) == (6, 1, 0)
    rows = read_lines(home / "out.jsonl")
    assert [row["answer"] for row in rows] == [f"answer to parcel {number}" for number in range(7)]
    assert [row["item_id"] for row in rows] == named


def test_repeated_rows_keep_their_answers_if_a_column_changes(home: Path) -> None:
    _csv(home, "monday")
    both = (home / "export.csv").read_text().splitlines()
    (home / "export.csv").write_text("\n".join([*both, *both[1:3]]) + "\n")
    assert run_job(_export(), "one").total == 8
    changed = (home / "export.csv").read_text().replace("monday", "tuesday")
    (home / "export.csv").write_text(changed)
    assert run_job(_export(), "two").reused == 8


@pytest.mark.sample(1)
@pytest.mark.parametrize("change", [{"prompt": "New: {text}"}, {"model_settings": {"temperature": 1}}])
def test_changed_prompt_or_setting_is_a_new_key(home: Path, change: dict[str, Any]) -> None:
    _csv(home, "monday")
    run_job(_export(), "one")
    _csv(home, "tuesday")
    assert run_job(_export(**change), "two").reused == 0


def test_id_column_identifies_a_row(home: Path) -> None:
    """A row with a new id gets a new answer, even if another row had the same text."""
    write_lines(home / "docs.jsonl", {"id": "a", "text": "same"})
    run_job(job(canary=0), "one")
    write_lines(home / "docs.jsonl", {"id": "a", "text": "same"}, {"id": "b", "text": "same"})
    assert (run_job(job(canary=0), "two").reused) == 1


def test_only_failed_selects_failed_items_under_new_ids(home: Path) -> None:
    _csv(home, "monday")
    first = plan(_export(), "one")
    answer(_export(), first, fail=items(first)[2]["id"])
    merge(_export(), first)
    _csv(home, "tuesday", rows=8)
    made = plan(_export(only_failed=True), "two")
    assert (made.reused, made.retried, made.left_out) == (5, 1, 2)


def test_prune_keeps_the_answers_that_rows_of_other_ids_use(home: Path) -> None:
    for number, stamp in enumerate(("monday", "tuesday", "wednesday")):
        _csv(home, stamp)
        run_job(_export(), f"run-{number}")
    age(_export(), "run-0", 100)
    prune(job_store(_export()).parent, "batch", keep_days=30, waits_for=lambda _: None)
    _csv(home, "thursday")
    assert run_job(_export(), "run-3").reused == 6


_NUMBERS = {
    "double": ("[1.0::DOUBLE, 2.0, 30000000000.0]", "[1::BIGINT, 2, 30000000000]"),
    "float": ("[1.0::FLOAT, 2.0, 4096.0]", "[1::INTEGER, 2, 4096]"),
    "decimal": ("[1.00::DECIMAL(12,2), 2.00, 33.00]", "[1::BIGINT, 2, 33]"),
    "big": (
        "[1e20::DOUBLE, 2e20, 3e18]",
        "[100000000000000000000::HUGEINT, 200000000000000000000, 3000000000000000000]",
    ),
    "negative": ("[-1.0::DOUBLE, -0.0, 5.0]", "[-1::BIGINT, 0, 5]"),
}


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", _NUMBERS)
@pytest.mark.parametrize("turned", [False, True])
def test_integer_id_is_the_same_in_every_column_type(home: Path, kind: str, turned: bool) -> None:
    """A gap turns a column of integers into a column of floats in one run."""
    exports = _NUMBERS[kind][::-1] if turned else _NUMBERS[kind]
    found: list[list[str]] = []
    for number, ids in enumerate(exports):
        duckdb.sql(f"COPY (SELECT unnest({ids}) AS id, unnest(['a', 'b', 'c']) AS text) TO '{home}/docs.parquet'")
        made, named = _named(job(source="docs.parquet", canary=0), f"run-{number}")
        found.append(named)
        assert made.reused == 3 * number
    assert found[0] == found[1]


def test_numbers_in_json_lines_are_numbers_and_text_is_text(home: Path) -> None:
    rows = [{"id": value, "text": f"t{n}"} for n, value in enumerate([1.0, 2.5, True, "3.0", 1e20])]
    write_lines(home / "docs.jsonl", *rows, '{"id": NaN, "text": "x"}', {"id": None, "text": "y"})
    made = plan(job(), "one")
    found = [item["id"] for item in items(made)]
    assert found[:5] == ["1", "2.5", "true", "3.0", "100000000000000000000"]
    assert made.broken == 2


def test_a_gap_in_typed_ids_is_a_row_without_an_id(home: Path) -> None:
    """Neither NaN nor infinity is a valid id."""
    values = "['nan'::DOUBLE, 'inf'::DOUBLE, NULL, 7.0]"
    duckdb.sql(f"COPY (SELECT unnest({values}) AS id, 'x' AS text) TO '{home}/docs.parquet'")
    made = plan(job(source="docs.parquet"), "one")
    assert (made.total, made.broken) == (4, 3)
    assert items(made)[-1]["id"] == "7"


@pytest.mark.sample(1)
@pytest.mark.parametrize(("old", "value"), [("1.0", "1.0::DOUBLE"), ("1.0", "1::BIGINT"), ("1e+20", "1e20::DOUBLE")])
def test_a_ledger_that_has_floats_as_ids_is_reused(home: Path, old: str, value: str) -> None:
    """Earlier versions used "1.0" as the id of the row 1.0 in a column of floats."""
    duckdb.sql(f"COPY (SELECT {value} AS id, 'x' AS text) TO '{home}/docs.parquet'")
    made_for = job(source="docs.parquet", canary=0)
    made = plan(made_for, "old")
    (item,) = items(made)
    with LedgerWriter(job_store(made_for).folder("old"), made.shards[0].part) as writer:
        writer.append(Record(id=old, key=item["key"], status="succeeded", output="kept", attempts=1))
    assert plan(made_for, "new").reused == 1
    again = plan(made_for, "again")
    answer(made_for, again)
    summary = merge(made_for, again)
    assert summary.reused == 1
    (row,) = read_lines(home / "out.jsonl")
    assert (row["answer"], row["item_id"]) == ("kept", item["id"])


def test_csv_id_finds_its_answer_under_both_spellings_of_a_number(home: Path) -> None:
    for number, ids in enumerate((["1.0", "2.0", ""], ["1", "2", "3"], ["1.0", "2.0", "3.0"])):
        lines = [f"{name},text {row}" for row, name in enumerate(ids)]
        (home / "docs.csv").write_text("\n".join(["id,text", *lines]) + "\n", encoding="utf-8")
        made, named = _named(job(source="docs.csv", canary=0), f"run-{number}")
        assert made.reused == [0, 2, 3][number]
        assert named[:2] == ids[:2]


def _refresh(**settings: Any) -> BatchJob:
    return job(refresh=True, canary=0, shard_size=3, **settings)


@pytest.fixture
def ten_documents(home: Path) -> None:
    write_lines(home / "docs.jsonl", *({"id": f"d{number}", "text": f"t{number}"} for number in range(10)))


@pytest.mark.sample(1)
@pytest.mark.usefixtures("ten_documents")
@pytest.mark.parametrize("killed", [False, True])
def test_interrupted_refresh_continues_and_calls_only_the_rest(killed: bool) -> None:
    """With the same command, after Ctrl-C and after a kill, any number of times."""
    run_job(job(canary=0), "first")
    called: list[int] = []
    for number in range(3):
        made = plan(_refresh(), f"refresh-{number}")
        called.append(sum(shard.items for shard in made.shards))
        assert made.refreshed == called[-1]
        answer(_refresh(), made, only_first=number < 2)
        if number == 2 or not killed:
            summary = merge(_refresh(), made, stopped="" if number == 2 else "interrupted")
            assert (summary.reused, summary.refreshed, summary.new) == (10 - called[-1], called[-1], 0)
    assert called == [10, 7, 4]
    refreshed_again = plan(_refresh(), "refreshed_again")
    assert (refreshed_again.reused, refreshed_again.refreshed, refreshed_again.refreshes) == (0, 10, ())


def _record(made_for: BatchJob, run: str, output: str, finished_at: str) -> Plan:
    made = plan(made_for, run)
    with LedgerWriter(job_store(made_for).folder(run), made.shards[0].part) as writer:
        for item in read_lines(made.shards[0].path):
            values: dict[str, Any] = {"output": output, "attempts": 1, "finished_at": finished_at}
            writer.append(Record(item["id"], item["key"], "succeeded", **values))
    return made


@pytest.mark.parametrize("clock", ["2026-05-01T00:00:00", "2026-11-01T00:00:00"], ids=["behind", "frozen"])
def test_refresh_with_a_clock_that_is_behind_loses_no_answer(home: Path, clock: str) -> None:
    """The order of the runs counts, and not the time that their machines state."""
    write_lines(home / "docs.jsonl", {"id": "a", "text": "one"})
    _record(job(canary=0), "first", "old", "2026-11-01T00:00:00.000000+00:00")
    refreshed = _record(job(canary=0, refresh=True), "second", "new", f"{clock}.000000+00:00")
    merge(job(canary=0, refresh=True), refreshed)
    assert [row["answer"] for row in read_lines(home / "out.jsonl")] == ["new"]
    reused = plan(job(canary=0), "third")
    assert (reused.reused, reused.new) == (1, 0)
    merge(job(canary=0), reused)
    assert [row["answer"] for row in read_lines(home / "out.jsonl")] == ["new"]


@pytest.mark.usefixtures("ten_documents")
@pytest.mark.parametrize(("limit", "reused", "refreshed"), [(None, 5, 5), (8, 5, 3), (5, 0, 5), (4, 0, 4)])
def test_refresh_that_a_limit_continued_in_part_is_continued_again(
    limit: int | None, reused: int, refreshed: int
) -> None:
    """Its answers are not paid for twice; a limit that selects no more rows than the last one starts a new refresh."""
    run_job(job(canary=0), "first")
    answer(_refresh(), plan(_refresh(), "killed"), only_first=True)
    run_job(_refresh(limit=5), "some")
    rest = plan(_refresh(limit=limit), "rest")
    assert (rest.reused, rest.refreshed) == (reused, refreshed)


@pytest.mark.usefixtures("ten_documents")
def test_continued_refresh_uses_answers_recorded_since_and_reports_it() -> None:
    made = plan(_refresh(), "one")
    answer(_refresh(), made, only_first=True)
    between = plan(job(canary=0), "between")
    assert between.reused == 3
    answer(job(canary=0), between, most=2)
    merge(job(canary=0), between)
    again = plan(_refresh(), "two")
    assert (again.refreshes, again.reused) == (("one",), 5)
    assert any("refresh of run one" in note for note in again.notes)


@pytest.mark.usefixtures("ten_documents")
def test_refresh_with_another_prompt_calls_all_items(home: Path) -> None:
    made = plan(_refresh(), "one")
    answer(_refresh(), made, only_first=True)
    assert plan(_refresh(prompt="New: {text}"), "two").reused == 0


@pytest.mark.usefixtures("ten_documents")
def test_refresh_that_is_planned_again_is_unchanged() -> None:
    """In a retry of the flow run, whose plan exists already, and with an old plan that has no field for a refresh."""
    run_job(job(canary=0), "old")
    folder = job_store(job()).folder("old")
    made = {key: value for key, value in json.loads(folder.read("plan.json") or b"").items() if key != "refreshes"}
    folder.write("plan.json", json.dumps(made).encode())
    first = plan(_refresh(), "one")
    answer(_refresh(), first, only_first=True)
    again = plan(_refresh(), "one")
    assert (again.refreshes, again.answered, again.reused) == ((), 3, 0)
