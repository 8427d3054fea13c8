"""The canary: runs that have one, runs that it ends, and runs that need none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batch_llm.jobs import BatchJob, Plan, ShardOutcome, merge, plan
from batch_llm.jobs.ledger.shard_progress import ShardProgress
from batch_llm.jobs.messages import canary_sentence, plan_sentence
from batch_llm.jobs.run_types import Canary
from tests.support.jobs import answer, job, run_job, write_lines

SMALL: dict[str, Any] = {"canary": 2, "shard_size": 15}


@pytest.fixture(autouse=True)
def thirty_documents(home: Path) -> None:
    write_lines(home / "docs.jsonl", *({"id": f"d{number}", "text": f"text {number}"} for number in range(30)))


def sizes(made: Plan) -> list[int]:
    return [shard.items for shard in made.shards]


def stopped_by_canary(made_for: BatchJob, run: str) -> None:
    """Record a run whose canary failed, so that its other items were never called."""
    made = plan(made_for, run)
    answer(made_for, made, fail="d0 d1", only_first=True)
    merge(made_for, made, stopped="the canary failed")


def test_new_job_has_a_canary_of_its_first_items() -> None:
    made = plan(job(**SMALL), "first")
    assert sizes(made) == [2, 15, 13]
    assert (made.shards[0].first, made.shards[0].last, made.shards[1].first) == (1, 2, 3)
    assert "the first 2 as a canary" in plan_sentence(made)


@pytest.mark.sample(2)
@pytest.mark.parametrize("settings", [{"canary": 0}, {"canary": 3}, {"canary": 2, "limit": 20}, {}])
def test_canary_is_skipped_if_disabled_or_of_little_use(settings: dict[str, Any]) -> None:
    assert sizes(plan(job(shard_size=30, **settings), "first")) == [settings.get("limit", 30)]


def test_successful_run_makes_the_next_canary_unnecessary() -> None:
    """Also a small run without a canary; settings that do not influence answers may differ."""
    run_job(job(**SMALL, limit=5), "few")
    assert sizes(plan(job(**SMALL, failure_threshold=0.5, config={"max_workers": 2}), "all")) == [15, 10]


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "change", [{"prompt": "New: {text}"}, {"instructions": "Be brief."}, {"model_settings": {"temperature": 0}}]
)
def test_a_changed_job_has_a_canary_again(change: dict[str, Any]) -> None:
    run_job(job(**SMALL), "first")
    assert sizes(plan(job(**{**SMALL, **change}), "changed")) == [2, 15, 13]


def test_a_job_whose_canary_failed_has_one_again_until_it_is_changed_back() -> None:
    """Otherwise the next scheduled run would call all items."""
    run_job(job(**SMALL, limit=5), "good")
    changed = job(**SMALL, prompt="Worse: {text}")
    stopped_by_canary(changed, "stopped")
    assert plan(changed, "again").canary.items == 2
    assert plan(job(**SMALL), "back").canary.items == 0


@pytest.mark.sample(1)
@pytest.mark.parametrize(("fail", "items"), [("d0 d1 d2 d3", 2), ("d0", 0)])
def test_run_with_too_many_failures_does_not_replace_the_canary(fail: str, items: int) -> None:
    run_job(job(**SMALL, limit=10), "first", fail=fail)
    assert plan(job(**SMALL), "second").canary.items == items


def test_expected_cost_is_measured_from_earlier_runs() -> None:
    """An item of earlier runs cost five cents, although the expensive canary of the last run stopped it."""
    prices = {"input_mtok": 0, "output_mtok": 1000.0}
    run_job(job(**SMALL, prices=prices, limit=12), "first", tokens=50)
    changed = job(**SMALL, prices=prices, prompt="Longer: {text}")
    assert plan(changed, "changed").canary.cost_usd == pytest.approx(0.10)
    made = plan(changed, "stopped")
    answer(changed, made, only_first=True, tokens=500)
    merge(changed, made, stopped="too dear")
    expected = plan(changed, "again").canary.cost_usd
    assert expected is not None
    assert expected < 0.3


def test_new_job_has_no_expected_cost() -> None:
    assert plan(job(**SMALL), "first").canary.cost_usd is None


def outcome(failed: int, cost_usd: float | None) -> ShardOutcome:
    return ShardOutcome(0, 20, 20 - failed, failed, 0, 0, 0, cost_usd, 1.0, {"refused": failed} if failed else {})


@pytest.mark.parametrize(
    ("failed", "cost_usd", "expected_usd", "beginning"),
    [
        (2, 0.3, 0.1, ""),
        (3, 0.1, 0.1, "3 failed of the canary of 20 items (3 refused), more than failure_threshold=0.1 allows"),
        (0, 0.31, 0.1, "the canary of 20 items cost $0.310, but $0.100 was expected from earlier runs"),
        (0, 9.0, None, ""),
        (0, 9.0, 0.0, ""),
        (0, None, 0.1, ""),
    ],
)
def test_canary_that_fails_or_costs_far_more_than_expected_ends_the_run(
    failed: int, cost_usd: float | None, expected_usd: float | None, beginning: str
) -> None:
    sentence = canary_sentence(Canary("shape", 20, expected_usd), outcome(failed, cost_usd), 0.1)
    assert sentence.startswith(beginning)
    assert ("set canary=0" in sentence) == bool(beginning)


@pytest.mark.parametrize(
    ("succeeded", "cost", "expected_cost", "threshold", "passes"),
    [
        (20, 1.0, None, 0.0, True),
        (19, 1.0, None, 0.0, False),
        (19, 1.0, None, 0.1, True),
        (18, 1.0, None, 0.1, True),
        (17, 1.0, None, 0.1, False),
        (17, None, None, 0.2, True),
        (19, 19.0, 20.0, 0.1, True),
        (19, 53.0, 20.0, 0.1, False),  # the last item may cost three times as much as the others
        (20, 59.0, 20.0, 0.1, True),
        (19, 61.0, 20.0, 0.1, False),
    ],
)
def test_canary_passes_early_only_if_its_missing_items_cannot_change_that(
    succeeded: int, cost: float | None, expected_cost: float | None, threshold: float, passes: bool
) -> None:
    canary = Canary("shape", 20, expected_cost)
    assert canary.has_passed(ShardProgress(items=20, succeeded=succeeded, cost_usd=cost), threshold) is passes
