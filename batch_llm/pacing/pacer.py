"""Interface of pacers, which decide when calls may start, and the permit of a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


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


class Pacer(Protocol):
    """Interface of objects that decide when calls may start; times are on the event loop's clock."""

    @property
    def episodes(self) -> int:
        """Number of consecutive cooldowns without a success between them."""
        ...

    @property
    def has_answered(self) -> bool:
        """Whether any call was answered, which shows that the key and the address are valid."""
        ...

    @property
    def version(self) -> int:
        """Number that changes whenever granted permits of calls that have not started become void."""
        ...

    @property
    def rate(self) -> float | None:
        """Number of calls per second that may start; None if unlimited."""
        ...

    def reserve(self, now: float, permit: CallPermit) -> float:
        """Return `now` and charge the call if it may start; else return a later time at which to ask again."""
        ...

    def rate_limited(self, permit: CallPermit, now: float) -> bool:
        """Record a rate limit; return whether it starts a cooldown, whose length the caller then sets with `pause`."""
        ...

    def pause(self, until: float, now: float) -> None:
        """Start a cooldown: no call starts before `until`."""
        ...

    def answered(self, permit: CallPermit, now: float, usage: Mapping[str, int]) -> None:
        """Record an answer and its token usage."""
        ...

    def failed(self, permit: CallPermit, now: float, usage: Mapping[str, int]) -> None:
        """Record a failure without a rate limit, and its token usage."""
        ...

    def not_sent(self, permit: CallPermit, now: float) -> None:
        """Refund a call that was never sent to the provider."""
        ...

    def connect_timed_out(self, permit: CallPermit, now: float) -> None:
        """Refund a call that got no connection in time."""
        ...

    def too_large(self, size: int) -> str:
        """Return why a prompt of `size` characters can never be sent; empty if it can."""
        ...

    def is_hopeless(self, now: float) -> bool:
        """Return whether nearly all calls have met a rate limit for so long that the run should stop."""
        ...
