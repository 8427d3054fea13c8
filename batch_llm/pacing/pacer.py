"""Interface of pacers, which decide when calls may start, and the values that they exchange with the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias


@dataclass(slots=True)
class CallPermit:
    """Permit for one call of one item.

    Attributes:
        size: Number of characters of the prompt.
        started: Start time of the call, on the event loop's clock.
        input_tokens: Estimated input tokens that were charged before the call started.
        output_tokens: Estimated output tokens that were charged before the call started.
        reserved: Part of a budget that is reserved for the call, in USD and in tokens.
    """

    size: int
    started: float = 0.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    reserved: tuple[float, float] | None = None


CallOutcome: TypeAlias = Literal["answered", "rate limited", "failed", "not sent", "connect timed out"]
"""Outcome of a permitted call; one that was not sent is refunded. Access to a member of an Enum costs a Python call."""


@dataclass(slots=True)
class PacerState:
    """Current state of a pacer, which only the pacer changes.

    Attributes:
        episodes: Number of consecutive cooldowns without a success between them.
        has_answered: Whether any call was answered, which shows that the key and the address are valid.
        version: Number that changes whenever granted permits of calls that have not started become void.
        rate: Calls per second that may start after the latest cooldown; None if unlimited, or before any cooldown.
    """

    episodes: int = 0
    has_answered: bool = False
    version: int = 0
    rate: float | None = None


class Pacer(Protocol):
    """Interface of objects that decide when calls may start; times are on the event loop's clock."""

    @property
    def state(self) -> PacerState:
        """Current state; the same object as long as the pacer exists."""
        ...

    def reserve(self, now: float, permit: CallPermit) -> float:
        """Return `now` and charge the call if it may start; else return a later time at which to ask again."""
        ...

    def finish(self, permit: CallPermit, now: float, outcome: CallOutcome, usage: Mapping[str, int]) -> bool:
        """Record the outcome of a call and its token usage.

        Returns whether this call starts a cooldown. No call starts then until the caller has called `set_cooldown_end`.
        """
        ...

    def set_cooldown_end(self, until: float, now: float) -> None:
        """Start a cooldown: no call starts before `until`."""
        ...

    def too_large(self, size: int) -> str:
        """Return why a prompt of `size` characters can never be sent; empty if it can."""
        ...

    def is_hopeless(self, now: float) -> bool:
        """Return whether nearly all calls have met a rate limit for so long that the run should stop."""
        ...
