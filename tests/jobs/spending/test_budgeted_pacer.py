"""The pacer of a shard's share of the budget."""

from __future__ import annotations

import asyncio

import pytest

from batch_llm.config import ProcessorConfig
from batch_llm.jobs.budget_types import BudgetShare, Spent
from batch_llm.jobs.spending.budgeted_pacer import BudgetedPacer
from batch_llm.pacing.pacer import CallOutcome, CallPermit
from batch_llm.pacing.slow_start import SlowStart


@pytest.mark.parametrize("outcome", ["rate limited", "failed", "not sent"])
async def test_every_call_without_answer_counts_its_bill_and_frees_its_reservation(outcome: CallOutcome) -> None:
    """A provider may bill tokens with a 429, too; what was reserved is available to the next call."""
    stopped = asyncio.Event()
    pacer = BudgetedPacer(SlowStart(ProcessorConfig().rate_limit), BudgetShare(tokens=100), Spent(), lambda usage: 0.0)
    pacer.stop = stopped.set
    first, second = CallPermit(40), CallPermit(40)
    assert pacer.reserve(0.0, first) == 0.0
    assert pacer.reserve(0.0, second) > 0.0, "one call at a time until the first answer"
    pacer.finish(first, 1.0, outcome, {"input_tokens": 60, "output_tokens": 30})
    if outcome == "rate limited":
        pacer.set_cooldown_end(1.0, 1.0)
    assert first.reserved is None
    left = CallPermit(40)
    assert pacer.reserve(30.0, left) == 30.0, "10 of 100 tokens are left, and nothing is in flight"
    pacer.finish(left, 31.0, outcome, {"input_tokens": 10})
    pacer.reserve(60.0, CallPermit(40))
    await asyncio.wait_for(stopped.wait(), 5)
