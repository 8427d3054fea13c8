"""Runs as their ledger shows them, and what is left of them after a prune."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec  # pyright: ignore[reportMissingTypeStubs]  has none
import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob, Plan, hold, job_store, merge, plan
from batch_llm.jobs import prune as prune_module
from batch_llm.jobs.ledger import LedgerWriter, Record, record_files
from batch_llm.jobs.outcomes import read_results
from batch_llm.jobs.prune import prune
from batch_llm.jobs.runs import choose_results, find_run, find_runs, standing
from batch_llm.jobs.store import Store
from batch_llm.jobs.tables import open_tables

from .making import job, prompts, read_lines, write_lines


@pytest.fixture(params=[".batch-llm", "memory://looked-at"])
def ledger(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param
    fsspec.filesystem("memory").store.clear()  # pyright: ignore[reportUnknownMemberType]


def _documents(home: Path, **texts: str) -> None:
    write_lines(home / "docs.jsonl", *({"id": name, "text": text} for name, text in texts.items()))


def _answer(made_for: BatchJob, made: Plan, *, fail: str = "", most: int = 1000) -> None:
    """Write into the ledger what running the shards would."""
    kept = job_store(made_for).folder(Path(made.folder).name)
    for shard in made.shards:
        with LedgerWriter(kept, shard.part) as writer:
            for item in read_lines(shard.path)[:most]:
                common: dict[str, Any] = {"id": item["id"], "key": item["key"], "attempts": 1, "cost_usd": 0.5}
                if item["id"] in fail:
                    writer.append(Record(**common, status="failed", category="timeout", error="too slow"))
                else:
                    writer.append(Record(**common, status="succeeded", output=f"answer to {item['prompt']}"))


def _night(made_for: BatchJob, run: str, **how: Any) -> Plan:
    made = plan(made_for, run)
    _answer(made_for, made, **how)
    merge(made_for, made)
    return made


def test_a_run_that_ended_shows_its_totals(home: Path, ledger: str) -> None:
    made_for = job(ledger=ledger)
    _documents(home, a="1", b="2", c="3")
    _night(made_for, "first", fail="b")
    _night(made_for, "second", fail="b")
    assert [run.id for run in find_runs(Store(ledger))] == ["second", "first"]
    found = standing(find_run(Store(ledger), "fir"))
    assert (found.state, found.totals.succeeded, found.totals.failed, found.totals.not_attempted) == ("ended", 2, 1, 0)
    assert (found.totals.cost_usd, found.examples) == (1.5, {"timeout": "too slow"})
    assert find_run(Store(ledger), "batch").id == "second", "the newest one of a name"


def test_a_run_that_was_cut_short_shows_what_is_missing(home: Path, ledger: str) -> None:
    """Nobody wrote its totals; the records have them. The same while it is at work."""
    made_for = job(ledger=ledger)
    _documents(home, a="1", b="2", c="3", d="4")
    with hold(job_store(made_for), "first", waits_for=print, lost=print):
        _answer(made_for, plan(made_for, "first"), fail="b", most=3)
        assert standing(find_run(Store(ledger))).state == "at work"
    found = standing(find_run(Store(ledger)))
    assert (found.state, found.totals.succeeded, found.totals.failed, found.totals.not_attempted) == (
        "cut short",
        2,
        1,
        1,
    )
    assert (found.totals.cost_usd, found.totals.categories) == (1.5, {"timeout": 1})
    assert found.examples == {"timeout": "too slow"}


@pytest.mark.parametrize("ended", [True, False])
def test_results_are_chosen_by_an_expression(home: Path, ledger: str, ended: bool) -> None:
    made_for = job(ledger=ledger)
    _documents(home, a="1", b="2", c="3")
    made = plan(made_for, "first")
    _answer(made_for, made, fail="b")
    if ended:
        merge(made_for, made)
    with open_tables() as tables:
        assert choose_results(tables, find_run(Store(ledger)), "error_category = 'timeout'") == 1
        (row,) = read_results(tables, "chosen", "id", 9).results
    assert (row.item_id, row.success, row.error) == ("b", False, "too slow")
    with open_tables() as tables, pytest.raises(JobError, match=r"where '1; drop' cannot be read: .*; there are id, "):
        choose_results(tables, find_run(Store(ledger)), "1; drop")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [("nobody", "no run is called 'nobody' in .*: there are runs of batch"), ("run-", "2 runs begin with 'run-': ")],
)
def test_a_run_that_cannot_be_found_is_one_line(home: Path, wanted: str, said: str) -> None:
    _documents(home, a="1")
    for name in ("run-1", "run-2"):
        plan(job(), name)
    with pytest.raises(JobError, match=said):
        find_run(Store(".batch-llm"), wanted)


def test_a_ledger_without_runs_is_one_line(home: Path) -> None:
    with pytest.raises(JobError, match=r"there are no runs in the ledger .*: name another one with --ledger"):
        find_runs(Store(str(home / "nothing")))


def _age(made_for: BatchJob, run: str, days: float) -> None:
    kept = job_store(made_for).folder(run)
    made = json.loads(kept.read("plan.json") or b"")
    kept.write("plan.json", json.dumps({**made, "planned_at": time.time() - days * 86_400}).encode())


def _three_nights(home: Path, made_for: BatchJob) -> None:
    """An old night, an older one that was cut short, and a young one that reuses what it can."""
    _documents(home, a="1", b="2", gone="3")
    _answer(made_for, plan(made_for, "oldest"), most=1)
    _night(made_for, "old")
    _documents(home, a="1", b="2 changed", c="4")
    _night(made_for, "young")
    _age(made_for, "oldest", 50)
    _age(made_for, "old", 40)


def test_a_prune_loses_no_answer_that_is_in_use(home: Path, ledger: str) -> None:
    """The next night calls nothing; what no later run has used is gone. A second prune carries it on."""
    made_for = job(ledger=ledger)
    _three_nights(home, made_for)
    store = Store(ledger)
    looked = prune(store, "batch", keep_days=30, waits_for=print, dry_run=True)
    assert len(find_runs(store)) == 3
    done = prune(store, "batch", keep_days=30, waits_for=print)
    assert looked == done
    assert (done.runs, done.carried, done.let_go) == (("old", "oldest"), 1, 2)
    assert [run.id for run in find_runs(store)] == ["young"]
    assert (plan(made_for, "next").reused, plan(made_for, "next").shards) == (3, ())
    _age(made_for, "young", 40)
    _night(made_for, "newest")
    again = prune(store, "batch", keep_days=30, waits_for=print)
    assert (set(again.runs), again.carried) == ({"young"}, 3)
    assert prompts(plan(made_for, "last")) == {}
    assert prune(store, "batch", keep_days=30, waits_for=print).runs == ()
    assert prompts(plan(made_for, "last")) == {}, "a prune with nothing to remove removes nothing"


@pytest.mark.parametrize("step", ["_carry", "_remove_run"])
def test_a_prune_that_is_killed_loses_nothing(
    home: Path, ledger: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each step, the answers are there once or twice, and count once."""
    made_for = job(ledger=ledger)
    _three_nights(home, made_for)
    done = getattr(prune_module, step)

    def killed(*arguments: Any) -> None:
        done(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
        patched.setattr(prune_module, step, killed)
        prune(Store(ledger), "batch", keep_days=30, waits_for=print)
    made = plan(made_for, "next")
    assert (made.reused, made.shards) == (3, ())
    assert merge(made_for, made).total_items == 3
    prune(Store(ledger), "batch", keep_days=30, waits_for=print)
    assert plan(made_for, "next").reused == 3


def test_the_newest_run_that_ended_stays(home: Path) -> None:
    """However old it is: a job that rests for a year pays for nothing."""
    made_for = job()
    _documents(home, a="1")
    _night(made_for, "first")
    _age(made_for, "first", 400)
    assert prune(Store(".batch-llm"), "batch", keep_days=30, waits_for=print).runs == ()
    assert len(record_files(job_store(made_for))) == 1
