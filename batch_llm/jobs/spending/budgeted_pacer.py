"""Pacer that enforces a shard's share of the budget: each call reserves its expected cost before it starts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from batch_llm.jobs.budget_types import BudgetShare, Spent
from batch_llm.pacing.pacer import CallOutcome, CallPermit, Pacer

from .prices import CostOf

LOOK_SECONDS = 0.1
"""Interval at which a call checks the share again while it waits for the cost of calls in flight."""

_PLAIN = frozenset({"input_tokens", "output_tokens", "cached_input_tokens"})


class BudgetedPacer:
    """Pacer that starts calls while the share of the budget lasts, and stops the shard when it is used up.

    A call starts only if the spending, the reservations of calls in flight and its own expected cost fit into the
    share, so the share is exceeded at most by the calls in flight. Until the first answer, one call at a time may start
    while anything is left.

    Args:
        pacer: Pacer that limits the rate of the calls.
        share: Share of the budget.
        spent: Spending of the shard before this attempt.
        cost: Function that prices a call.

    Attributes:
        estimate: Usage of the calls as measured from the answers.
        wanting: Expected cost of the call for which the share was too small; None if the share was sufficient.
        stop: Callback that stops the shard.
    """

    def __init__(self, pacer: Pacer, share: BudgetShare, spent: Spent, cost: CostOf) -> None:
        self._pacer, self._share, self._cost = pacer, share, cost
        self.state, self.set_cooldown_end = pacer.state, pacer.set_cooldown_end
        self.too_large, self.is_hopeless = pacer.too_large, pacer.is_hopeless
        self._spent, self._reserved, self._in_flight = spent, Spent(), 0
        self.estimate = replace(share.estimate)
        self.wanting: Spent | None = None
        self.stop: Callable[[], None] = lambda: None

    def reserve(self, now: float, permit: CallPermit) -> float:
        expected = self._expected(permit.size)
        if not self._affords(expected):
            if not self._in_flight and self.wanting is None:
                self.wanting = expected
                asyncio.get_running_loop().call_soon(self.stop)  # not while a caller is inside `reserve`
            return now + LOOK_SECONDS
        start = self._pacer.reserve(now, permit)
        if start <= now:
            permit.reserved = (expected.usd, expected.tokens)
            self._reserved += expected
            self._in_flight += 1
        return start

    def finish(self, permit: CallPermit, now: float, outcome: CallOutcome, usage: Mapping[str, int]) -> bool:
        self._settle(permit, usage)
        if outcome == "answered":
            self._learn(permit.size, usage)
        return self._pacer.finish(permit, now, outcome, usage)

    def _affords(self, expected: Spent) -> bool:
        if self._share.has_room(self._spent + self._reserved + expected):
            return True
        is_guess = not self.estimate.answers and not self._in_flight
        return is_guess and not self._share.is_used_up(self._spent)

    def _expected(self, size: int) -> Spent:
        sent, received = self.estimate.input_tokens(size), self.estimate.output_tokens
        plain = self._priced(
            {
                "input_tokens": round(sent),
                "output_tokens": round(received),
                "cached_input_tokens": round(sent * self.estimate.cached_share),
            }
        )
        return replace(plain, usd=plain.usd * self.estimate.price_factor)

    def _priced(self, usage: Mapping[str, int]) -> Spent:
        tokens = usage.get("input_tokens", 0) + usage.get("output_tokens", 0)
        return Spent(self._cost(usage) or 0.0 if tokens else 0.0, tokens)

    def _settle(self, permit: CallPermit, usage: Mapping[str, int]) -> None:
        """Replace the reservation of a call by its actual cost."""
        self._spent += self._priced(usage)
        if permit.reserved is not None:
            self._reserved -= Spent(*permit.reserved)
            self._in_flight -= 1
            permit.reserved = None

    def _learn(self, size: int, usage: Mapping[str, int]) -> None:
        self.estimate.learn(size, usage)
        plain = {name: count for name, count in usage.items() if name in _PLAIN}
        self.estimate.learn_price(self._priced(usage).usd, self._priced(plain).usd)
