"""Amounts of money and tokens that are passed between processes: spending, budget shares and budget status."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from batch_llm.pacing.token_estimate import TokenEstimate


@dataclass(frozen=True, slots=True)
class Spent:
    """An amount spent, in USD and in tokens."""

    usd: float = 0.0
    tokens: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.usd + other.usd, self.tokens + other.tokens)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.usd - other.usd, self.tokens - other.tokens)


@dataclass(frozen=True, slots=True)
class BudgetShare:
    """The part of a budget that one shard may spend; plain numbers that can be sent to another process or machine.

    Attributes:
        usd: Maximum cost of all calls of the shard in USD, including earlier attempts; None for no limit.
        tokens: Maximum tokens of all calls of the shard, including earlier attempts; None for no limit.
        estimate: Expected usage of the job's calls.
    """

    usd: float | None = None
    tokens: float | None = None
    estimate: TokenEstimate = field(default_factory=TokenEstimate)

    @property
    def is_bounded(self) -> bool:
        """Whether the share has a limit in USD or tokens."""
        return self.usd is not None or self.tokens is not None

    def has_room(self, spent: Spent) -> bool:
        """Return whether total spending of `spent` is within the share."""
        return (self.usd is None or spent.usd <= self.usd) and (self.tokens is None or spent.tokens <= self.tokens)

    def is_used_up(self, spent: Spent) -> bool:
        """Return whether nothing is left of the share after spending `spent`."""
        return (self.usd is not None and spent.usd >= self.usd) or (
            self.tokens is not None and spent.tokens >= self.tokens
        )


Unit: TypeAlias = Literal["usd", "tokens"]


Scope: TypeAlias = Literal["run", "month"]


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """One budget of a job and how much of it is spent.

    Attributes:
        setting: Name of the setting: budget_usd, budget_tokens or monthly_budget_usd.
        scope: "run" for one run, "month" for all runs of the job's name in this calendar month (UTC).
        unit: "usd" or "tokens" (input and output tokens together).
        budget: Size of the budget.
        spent: Amount spent.
    """

    setting: str
    scope: Scope
    unit: Unit
    budget: float
    spent: float

    @property
    def left(self) -> float:
        """Unspent amount; never negative."""
        return max(0.0, self.budget - self.spent)

    def as_json(self) -> dict[str, Any]:
        """Return the status as a JSON object for events and summaries."""
        own = {name: getattr(self, name) for name in ("setting", "scope", "unit", "budget", "spent")}
        return {**own, "left": self.left}
