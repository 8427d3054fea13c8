"""Budgets: the shares of shards, and calls that a share has no room for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.errors import JobError
from batch_llm.jobs import (
    BudgetAllocator,
    BudgetShare,
    BudgetStatus,
    ShardOutcome,
    ShardRef,
    Spent,
    job_store,
    plan,
    read_budget_status,
    run_folder,
    run_shard,
)
from batch_llm.jobs.ledger.records import LedgerWriter, Record
from batch_llm.pacing.token_estimate import TokenEstimate
from batch_llm.strategies.base import LLMCallStrategy
from tests.support.jobs import job, write_lines
from tests.support.selection import examples

_PRICES = {"input_mtok": 100_000, "output_mtok": 100_000}  # ten cents a token


class _Words(LLMCallStrategy[str]):
    """Strategy that uses as many tokens as its prompt says, and answers after all possible calls have started."""

    def __init__(self, fail: bool = False) -> None:
        self.calls = self.in_flight = self.most_in_flight = 0
        self._fail = fail

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        self.calls = number = self.calls + 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0.01)
        self.in_flight -= 1
        if self._fail and number % 3 == 0:
            raise ConnectionError("down")
        return prompt, {"input_tokens": int(prompt), "output_tokens": 0}


async def _run(home: Path, texts: list[int], share: BudgetShare, workers: int, strategy: _Words) -> ShardOutcome:
    write_lines(home / "docs.jsonl", *({"id": f"{place}", "text": str(text)} for place, text in enumerate(texts)))
    fast = {"max_workers": workers, "retry": {"max_attempts": 1, "initial_wait": 0.01}}
    made_for = job(config=fast, prices=_PRICES)
    made = plan(made_for, "r", strategy="Words")
    return await run_shard(made_for, made.folder, made.shards[0], strategy=lambda: strategy, share=share)


@pytest.mark.sample(1)
@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("workers", [1, 5])
@pytest.mark.parametrize("texts", [[10] * 60, [10, 30] * 30, [5] * 30 + [40] * 30])
async def test_share_is_exceeded_by_at_most_the_calls_in_flight(
    home: Path, texts: list[int], workers: int, fail: bool
) -> None:
    """For any cost of answers, and also if some calls fail and are not billed."""
    strategy = _Words(fail)
    outcome = await _run(home, texts, BudgetShare(usd=20.0), workers, strategy)
    assert outcome.cost_usd is not None
    assert outcome.cost_usd <= 20.0 + workers * max(texts) * 0.1
    assert outcome.cost_usd >= 20.0 - workers * max(texts) * 0.1, "at most one call per worker is left over"
    assert outcome.wanting is not None
    assert outcome.not_attempted > 0
    assert (outcome.unfinished, outcome.stopped) == (None, False) or fail


async def test_sufficient_share_changes_nothing(home: Path) -> None:
    outcome = await _run(home, [10] * 20, BudgetShare(usd=20.5, tokens=205), 5, _Words())
    assert (outcome.succeeded, outcome.wanting) == (20, None)
    assert outcome.estimate is not None
    assert outcome.estimate.answers == 20


async def test_no_call_starts_with_a_used_up_share(home: Path) -> None:
    """Not even the first call, whose cost is unknown."""
    strategy = _Words()
    outcome = await _run(home, [10] * 3, BudgetShare(tokens=0), 2, strategy)
    assert (strategy.calls, outcome.not_attempted) == (0, 3)
    assert outcome.wanting is not None


async def test_calls_run_one_at_a_time_until_a_cost_is_known(home: Path) -> None:
    """If the guessed cost of one call exceeds the share."""
    strategy = _Words()
    outcome = await _run(
        home, [10] * 8, BudgetShare(tokens=500, estimate=TokenEstimate(output_tokens=1e6)), 5, strategy
    )
    assert outcome.succeeded == 8


def _shards(count: int) -> list[ShardRef]:
    return [ShardRef(index, 1, 10, 10, "", "") for index in range(count)]


def _outcome(shard: ShardRef, usd: float, wanting: Spent | None) -> ShardOutcome:
    return ShardOutcome(shard.index, shard.items, 1, 0, 0, 0, 0, usd, 1.0, wanting=wanting)


@examples(100)
@given(st.integers(1, 8), st.integers(1, 4), st.lists(st.floats(0, 1), min_size=200, max_size=200), st.integers(1, 9))
def test_shares_never_sum_up_to_more_than_the_budget(count: int, at_once: int, draws: list[float], price: int) -> None:
    """Shards may end in any way; at the end less than the cost of one call is left."""
    budget = BudgetAllocator([BudgetStatus("budget_usd", "run", "usd", 100.0, 0.0)], 1.0)
    left, running, spent, uses = _shards(count), dict[ShardRef, BudgetShare](), dict[int, float](), iter(draws)
    while True:
        for shard in list(left):
            if len(running) < at_once and (share := budget.share(shard, left[:at_once] or [shard])):
                left.remove(shard)
                running[shard] = share
        held = {shard.index: share.usd or 0.0 for shard, share in running.items()}
        assert sum({**spent, **held}.values()) <= 100.0 + 1e-6
        if not running or (draw := next(uses, None)) is None:
            break
        shard, share = running.popitem()
        assert share.usd is not None
        before = spent.get(shard.index, 0.0)
        calls = (share.usd - before) // price
        spent[shard.index] = before + calls * price
        used_up = draw < 0.8
        budget.release(shard, _outcome(shard, spent[shard.index], Spent(usd=price) if used_up else None))
        if used_up:
            left.append(shard)
    if left and not running:
        assert 100.0 - sum(spent.values()) < price


def test_share_without_a_budget_is_unlimited() -> None:
    share = BudgetAllocator([], 1.0).share(_shards(1)[0], _shards(1))
    assert share is not None
    assert not share.is_bounded


def test_a_month_counts_all_runs_of_the_name(home: Path) -> None:
    """All runs of this calendar month count; the budget of a run counts its own calls."""
    made_for = job(budget_usd=5, budget_tokens=100, monthly_budget_usd=50)
    usage: dict[str, Any] = {"status": "failed", "cost_usd": 2.0, "input_tokens": 30, "output_tokens": 5}
    for run, finished_at in (("r", ""), ("another", ""), ("old", "2020-01-31T23:59:59.000000+00:00")):
        when: dict[str, Any] = {"finished_at": finished_at} if finished_at else {}
        with LedgerWriter(job_store(made_for).folder(run), "p") as ledger:
            ledger.append(Record(id="a", key="k", **usage, **when))
    found = {
        limit.setting: (limit.spent, limit.left) for limit in read_budget_status(made_for, run_folder(made_for, "r"))
    }
    assert found == {"budget_usd": (2.0, 3.0), "budget_tokens": (35, 65), "monthly_budget_usd": (4.0, 46.0)}


@pytest.mark.sample(1)
@pytest.mark.parametrize("setting", ["budget_usd", "monthly_budget_usd"])
def test_a_budget_without_a_price_is_refused_at_the_start(
    home: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test-key-that-is-no-secret")
    write_lines(home / "docs.jsonl", {"id": "a", "text": "x"})
    settings: dict[str, Any] = {"model": "openai-chat:my-model", setting: 5}
    with pytest.raises(JobError, match=f"{setting} needs a price, and the price of model 'openai-chat:my-model' is"):
        plan(job(**settings), "r")
    assert plan(job(**settings, prices=_PRICES), "r").total == 1
    assert plan(job(model="openai-chat:my-model", budget_tokens=5), "r").total == 1
