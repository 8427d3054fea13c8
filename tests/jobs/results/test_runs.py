"""States and totals of runs, read from the ledger."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec  # pyright: ignore[reportMissingTypeStubs]  has none
import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import hold_lease, job_store, merge, plan, read_past_runs
from batch_llm.jobs.ledger.heartbeat import Owner
from batch_llm.jobs.results.outcomes import read_results
from batch_llm.jobs.results.runs import choose_results, find_run, find_runs, read_run_state
from batch_llm.jobs.storage.duckdb_session import open_tables
from batch_llm.jobs.storage.store import Store
from tests.support.jobs import age, answer, documents, job, leased_runs, run_job


@pytest.fixture(params=[".batch-llm", "memory://looked-at"])
def ledger(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param
    fsspec.filesystem("memory").store.clear()  # pyright: ignore[reportUnknownMemberType]


@pytest.mark.sample(1)
def test_a_finished_run_shows_its_totals(home: Path, ledger: str) -> None:
    made_for = job(ledger=ledger)
    documents(home, a="1", b="2", c="3")
    run_job(made_for, "first", fail="b")
    run_job(made_for, "second", fail="b")
    assert [run.id for run in find_runs(Store(ledger))] == ["second", "first"]
    found = read_run_state(find_run(Store(ledger), "fir"))
    assert (found.state, found.totals.succeeded, found.totals.failed, found.totals.not_attempted) == ("failed", 2, 1, 0)
    assert (found.totals.cost_usd, found.examples) == (1.5, {"timeout": "too slow"})
    assert find_run(Store(ledger), "batch").id == "second", "the newest one of a name"


def test_runs_are_in_the_order_of_their_leases(home: Path) -> None:
    """The clock of a machine may be behind; runs without a lease are in the order of their times."""
    documents(home, a="1")
    leased_runs(job(), first=20, second=50, third=10)
    run_job(job(), "without-lease")
    age(job(), "without-lease", 15)
    found = find_runs(Store(".batch-llm"))
    assert [run.id for run in found] == ["third", "without-lease", "second", "first"]
    assert found[2].began == found[3].began == found[3].planned_at
    assert [run.run for run in reversed(read_past_runs(job_store(job())))] == [run.id for run in found]


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "completed"),
        ({"succeeded": 9, "failed": 1}, "completed"),
        ({"succeeded": 8, "failed": 2}, "failed"),
        ({"succeeded": 0, "failed": 10}, "failed"),
        ({"succeeded": 8, "not_attempted": 2}, "failed"),
        ({"succeeded": 8, "not_attempted": 2, "stopped": "stopped by Ctrl-C"}, "cancelled"),
        ({"succeeded": 8, "not_attempted": 2, "stopped": "stopped by cancellation in the UI"}, "cancelled"),
        ({"succeeded": 8, "not_attempted": 2, "stopped": "budget_usd of $4.00 is used up"}, "stopped"),
    ],
)
def test_the_state_of_a_finished_run_follows_from_its_totals(
    home: Path, ledger: str, changes: dict[str, Any], state: str
) -> None:
    made_for = job(ledger=ledger)
    documents(home, a="1")
    run_job(made_for, "first")
    run = find_run(Store(ledger))
    summary = json.loads(run.store.read("summary.json") or b"{}")
    run.store.write("summary.json", json.dumps({**summary, "total_items": 10, "succeeded": 10, **changes}).encode())
    assert read_run_state(run).state == state


@pytest.mark.sample(1)
def test_a_run_of_an_earlier_version_with_failures_has_only_ended(home: Path, ledger: str) -> None:
    """Its plan does not have the failure threshold."""
    documents(home, a="1", b="2")
    run_job(job(ledger=ledger), "first", fail="b")
    run = find_run(Store(ledger))
    del run.plan["failure_threshold"]
    assert read_run_state(run).state == "ended"


@pytest.mark.sample(1)
def test_a_crashed_run_shows_what_is_missing(home: Path, ledger: str) -> None:
    """Without a summary, the totals come from the records; so they do while the run is running."""
    made_for = job(ledger=ledger)
    documents(home, a="1", b="2", c="3", d="4")
    with hold_lease(job_store(made_for), "first", waits_for=print, lost=print):
        answer(made_for, plan(made_for, "first"), fail="b", most=3)
        assert read_run_state(find_run(Store(ledger))).state == "running"
    found = read_run_state(find_run(Store(ledger)))
    assert (found.state, found.totals.succeeded, found.totals.failed, found.totals.not_attempted) == (
        "crashed",
        2,
        1,
        1,
    )
    assert (found.totals.cost_usd, found.totals.categories) == (1.5, {"timeout": 1})
    assert found.examples == {"timeout": "too slow"}


@pytest.mark.sample(2)
@pytest.mark.parametrize("ended", [True, False])
def test_results_are_selected_by_an_sql_expression(home: Path, ledger: str, ended: bool) -> None:
    made_for = job(ledger=ledger)
    documents(home, a="1", b="2", c="3")
    made = plan(made_for, "first")
    answer(made_for, made, fail="b")
    if ended:
        merge(made_for, made)
    with open_tables() as tables:
        assert choose_results(tables, find_run(Store(ledger)), "error_category = 'timeout'") == 1
        (row,) = read_results(tables, "chosen", "id", 9).results
    assert (row.item_id, row.success, row.error) == ("b", False, "too slow")
    with (
        open_tables() as tables,
        pytest.raises(JobError, match=r"where '1; drop' cannot be read: .*; the columns are id, "),
    ):
        choose_results(tables, find_run(Store(ledger)), "1; drop")


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("wanted", "message"),
    [("nobody", "no run or job named 'nobody' in .*: it has runs of batch"), ("run-", "2 runs begin with 'run-': ")],
)
def test_unknown_run_is_reported_in_one_line(home: Path, wanted: str, message: str) -> None:
    documents(home, a="1")
    for name in ("run-1", "run-2"):
        plan(job(), name)
    with pytest.raises(JobError, match=message):
        find_run(Store(".batch-llm"), wanted)


def test_ledger_without_runs_is_reported_in_one_line(home: Path) -> None:
    with pytest.raises(JobError, match=r"no runs in the ledger .*: use another ledger with --ledger"):
        find_runs(Store(str(home / "nothing")))


@pytest.mark.sample(1)
@pytest.mark.parametrize("file", ["plan.json", "summary.json", "outcomes.parquet"])
@pytest.mark.parametrize("content", [b"\0" * 64, b"[]", b""])
def test_run_with_a_damaged_file_is_shown_with_the_rest(home: Path, file: str, content: bytes) -> None:
    documents(home, a="1", b="2")
    run_job(job(), "first", fail="b")
    (home / ".batch-llm" / "batch" / "first" / file).write_bytes(content)
    found = read_run_state(find_run(Store(".batch-llm")))
    assert (found.totals.succeeded, found.examples) == (1, {"timeout": "too slow"})


def test_a_run_whose_machine_was_restarted_is_crashed(home: Path) -> None:
    """Its process is not visible and its lease is not released; but the lease is not renewed either."""
    documents(home, a="1")
    plan(job(), "first")
    store = job_store(job())
    Owner("first", "here", "an-earlier-boot pid:[1] 7 7", pid=7, since=0).write(store, "lease/000000000001.json")
    assert read_run_state(find_run(Store(".batch-llm"))).state == "running"
    os.utime(home / ".batch-llm" / "batch" / "lease" / "000000000001.json", (0, 0))
    assert read_run_state(find_run(Store(".batch-llm"))).state == "crashed"
