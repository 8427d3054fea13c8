"""A call's permission to start, and the account of what it was charged for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class CallPermit:
    """One try of one item.

    Attributes:
        size: Characters of the prompt.
        started: When the call started, by the event loop's clock.
        input_tokens: What was charged for it before it started.
        output_tokens: The same.
        reserved: What of a budget is set aside for it, in USD and in tokens.
    """

    size: int
    started: float = 0.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    reserved: tuple[float, float] | None = None


class Pacer(Protocol):
    """Decides when calls may start; plain numbers, changed between two awaits. Times are the event loop's."""

    @property
    def episodes(self) -> int:
        """Rate-limit episodes in a row without a success between them."""
        ...

    @property
    def has_answered(self) -> bool:
        """Whether a call was ever answered, so that the key and the address are good ones."""
        ...

    @property
    def version(self) -> int:
        """What changes whenever starts that were promised are void."""
        ...

    @property
    def rate(self) -> float | None:
        """Calls a second that may start; None where nothing bounds them."""
        ...

    def reserve(self, now: float, turn: CallPermit) -> float:
        """Return `now`, and charge for `turn`, if it may start; else a later time at which to ask again."""
        ...

    def rate_limited(self, turn: CallPermit, now: float) -> bool:
        """Note a rate limit; whether it begins an episode, whose length the caller then tells with `pause`."""
        ...

    def pause(self, until: float, now: float) -> None:
        """Let nothing start before `until`."""
        ...

    def answered(self, turn: CallPermit, now: float, usage: Mapping[str, int]) -> None:
        """Note an answer and what it cost."""
        ...

    def failed(self, turn: CallPermit, now: float, usage: Mapping[str, int]) -> None:
        """Note a failure that is no rate limit, and what it cost."""
        ...

    def not_sent(self, turn: CallPermit, now: float) -> None:
        """Take back what was charged for a call that never reached the provider."""
        ...

    def connect_timed_out(self, turn: CallPermit, now: float) -> None:
        """The same, of a call that found no connection in time."""
        ...

    def too_large(self, size: int) -> str:
        """Return why a prompt of `size` characters can never be sent; empty where it can."""
        ...

    def is_hopeless(self, now: float) -> bool:
        """Whether nearly everything has been refused for so long that the run had better end."""
        ...
