"""Amounts of money and tokens that travel between processes: what was spent, a share of a budget, a budget's status."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from batch_llm.pacing.token_estimate import TokenEstimate


@dataclass(frozen=True, slots=True)
class Spent:
    """An amount, in both of what a budget can be in."""

    usd: float = 0.0
    tokens: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.usd + other.usd, self.tokens + other.tokens)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.usd - other.usd, self.tokens - other.tokens)


@dataclass(frozen=True, slots=True)
class BudgetShare:
    """What one shard may spend: plain numbers, which travel to another process or machine.

    Attributes:
        usd: What all calls of the shard may cost, those of its earlier tries included; None for no limit.
        tokens: How many tokens they may use.
        estimate: What is known of the job's calls.
    """

    usd: float | None = None
    tokens: float | None = None
    estimate: TokenEstimate = field(default_factory=TokenEstimate)

    @property
    def is_bounded(self) -> bool:
        """Whether there is any limit."""
        return self.usd is not None or self.tokens is not None

    def has_room(self, spent: Spent) -> bool:
        """Whether so much may be spent in all."""
        return (self.usd is None or spent.usd <= self.usd) and (self.tokens is None or spent.tokens <= self.tokens)

    def is_used_up(self, spent: Spent) -> bool:
        """Whether nothing is left after so much."""
        return (self.usd is not None and spent.usd >= self.usd) or (
            self.tokens is not None and spent.tokens >= self.tokens
        )


Unit: TypeAlias = Literal["usd", "tokens"]


Scope: TypeAlias = Literal["run", "month"]


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """One budget of a job, and what is spent of it.

    Attributes:
        setting: What sets it.
        scope: Of one run, or of all runs of the job's name in this calendar month (UTC).
        unit: What it counts; tokens are those sent and received together.
        budget: How much may be spent.
        spent: How much is.
    """

    setting: str
    scope: Scope
    unit: Unit
    budget: float
    spent: float

    @property
    def left(self) -> float:
        """How much is left; never below 0."""
        return max(0.0, self.budget - self.spent)

    def as_json(self) -> dict[str, Any]:
        """Return it for an event, a summary, a program."""
        own = {name: getattr(self, name) for name in ("setting", "scope", "unit", "budget", "spent")}
        return {**own, "left": self.left}
