"""History of a job: the totals of its runs in the ledger, and warnings about a run that differs from them."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.jobs import PastRun, drifts, job_store, plan, read_past_runs
from batch_llm.jobs.results.history import MIN_EARLIER_RUNS, full_runs
from tests.support.jobs import documents, job, run_job
from tests.support.past_runs import ordinary


def test_unusual_figure_is_reported_with_the_usual_value_and_the_change() -> None:
    usual = [ordinary(call_p95_seconds=seconds) for seconds in (1.1, 1.2, 1.3, 1.2, 1.1, 1.2)]
    assert drifts([*usual, ordinary(call_p95_seconds=2.4)]) == [
        "95th percentile of the latency is 2.40 s, usually 1.20 s (+100%)"
    ]


def test_each_figure_is_compared() -> None:
    reported = drifts(
        [*[ordinary()] * 6, ordinary(cost_usd=8.0, failed=50, call_p95_seconds=4.0, output_tokens=99_000)]
    )
    assert reported == [
        "cost per 1,000 items is $8.00, usually $4.00 (+100%)",
        "share of failed items is 5.0%, usually 1.0% (+400%)",
        "95th percentile of the latency is 4.00 s, usually 1.20 s (+233%)",
        "output tokens per answer is 100, usually 50 (+100%)",
    ]


def test_larger_run_is_not_reported() -> None:
    """Figures per item are compared, so three times the items may cost three times as much."""
    larger = ordinary(
        items=3000, called=3000, succeeded=2970, answered=2970, failed=30, cost_usd=12.0, output_tokens=148_500
    )
    assert drifts([*[ordinary()] * 6, larger]) == []


def test_one_unusual_run_does_not_hide_the_next() -> None:
    bad = ordinary(cost_usd=40.0)
    assert drifts([*[ordinary()] * 6, bad, ordinary()]) == []
    assert len(drifts([*[ordinary()] * 6, bad, bad])) == 1


@pytest.mark.parametrize("before", range(MIN_EARLIER_RUNS))
def test_too_few_runs_cause_no_warning(before: int) -> None:
    assert drifts([*[ordinary()] * before, ordinary(cost_usd=400.0)]) == []


def test_run_without_calls_or_a_price_causes_no_warning() -> None:
    assert drifts([]) == []
    assert drifts([*[ordinary()] * 6, ordinary(called=0, answered=0, cost_usd=0.0)]) == []
    assert drifts([*[ordinary()] * 6, ordinary(cost_usd=None)]) == []
    assert drifts([*[ordinary(called=0, cost_usd=0.0)] * 9, ordinary()]) == []


def test_only_full_runs_are_compared() -> None:
    """Stopped runs and runs over a few items neither drift nor change what is usual."""
    odd = [ordinary(call_p95_seconds=9.0, partial=True), ordinary(called=2, cost_usd=9.0, call_p95_seconds=9.0)]
    for run in odd:
        assert drifts([*[ordinary()] * 6, run]) == []
    assert drifts([*odd * 3, *[ordinary()] * 6]) == []
    assert full_runs([*odd, ordinary()]) == [ordinary()]


def test_small_runs_are_full_if_most_runs_are_small() -> None:
    """The first run of a growing source is large; the nightly runs after it are compared with each other."""
    nightly = [ordinary(called=10, failed=0)] * 6
    assert full_runs([ordinary(), *nightly]) == [ordinary(), *nightly]


def test_runs_that_stop_or_only_retry_failures_are_partial(home: Path) -> None:
    made_for = job(name="h")
    documents(home, a="1", b="2", c="3")
    run_job(made_for, "first", fail="b")
    run_job(made_for, "retry")
    documents(home, a="1", b="2", c="3", d="4")
    run_job(made_for, "more")
    assert [(run.run, run.partial) for run in read_past_runs(job_store(made_for))] == [
        ("first", False),
        ("retry", True),
        ("more", False),
    ]


COSTS = st.lists(st.floats(0.5, 50), min_size=MIN_EARLIER_RUNS, max_size=30)


@given(COSTS)
def test_order_of_earlier_runs_does_not_matter(costs: list[float]) -> None:
    last = ordinary(cost_usd=7.0)
    assert drifts([*_costing(costs), last]) == drifts([*_costing(sorted(costs)), last])


@given(COSTS)
def test_usual_figures_cause_no_warning(costs: list[float]) -> None:
    assert drifts(_costing([*costs, median(costs)])) == []


def _costing(costs: list[float]) -> list[PastRun]:
    return [ordinary(cost_usd=cost) for cost in costs]


@pytest.mark.shell
def test_ledger_has_the_totals_of_each_run(home: Path) -> None:
    """The latest runs, oldest first; running runs are left out, and figures missing in older versions are None."""
    made_for = job(name="h", refresh=True)
    documents(home, a="1", b="2", c="3")
    for number, failing in enumerate(("", "b", "bc")):
        run_job(made_for, f"run-{number}", fail=failing)
    plan(made_for, "at-work")
    runs = read_past_runs(job_store(made_for))
    assert [(found.run, found.items, found.called, found.answered, found.failed) for found in runs] == [
        ("run-0", 3, 3, 3, 0),
        ("run-1", 3, 3, 2, 1),
        ("run-2", 3, 3, 1, 2),
    ]
    assert {found.model for found in runs} == {"local"}
    assert [found.cost_usd for found in runs] == [1.5, 1.5, 1.5]
    assert [found.run for found in read_past_runs(job_store(made_for), most=2)] == ["run-1", "run-2"]


def test_reused_answers_do_not_count_for_a_run(home: Path) -> None:
    documents(home, a="1", b="2")
    run_job(job(name="h"), "first")
    documents(home, a="1", b="2", c="3")
    run_job(job(name="h"), "second")
    last = read_past_runs(job_store(job(name="h")))[-1]
    assert (last.items, last.succeeded, last.called, last.answered, last.cost_usd) == (3, 3, 1, 1, 0.5)


def test_name_without_a_run_has_no_history(home: Path) -> None:
    assert read_past_runs(job_store(job(name="nobody"))) == []
