"""How one LLM call is made: the interface that every provider implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

TOutput = TypeVar("TOutput")


@dataclass(frozen=True, slots=True)
class BilledRequest:
    """One request as the provider bills it. Tiers of a price depend on a request, so a sum of several is not enough.

    Attributes:
        units: What is billed, by the names that genai-prices has for it: `input_tokens`, `cache_write_1h_tokens`,
            `web_searches`, ... Tokens of the cache and of a modality are part of the input or output tokens.
        context: What else decides the price, such as `("service_tier", "flex")`.
        estimated: How many of the tokens are estimated from the length of the texts, for the provider reported none.
    """

    units: Mapping[str, float]
    context: tuple[tuple[str, str], ...] = ()
    estimated: int = 0


class TokenUsage(dict[str, int]):
    """Token counts that carry what else a provider said of the answer; a plain dict serves where there is nothing.

    Attributes:
        safety_ratings: `{category: probability}` by their names; becomes `WorkItemResult.gemini_safety_ratings`.
        finish_reason: Why the answer ended: "stop", "length" at the token limit, "tool_call", "content_filter" or
            "error"; becomes `WorkItemResult.finish_reason`. None where the provider does not report it.
        requests: The requests of which the counts are the sum, where they are known one by one.
    """

    __slots__ = ("finish_reason", "requests", "safety_ratings")

    def __init__(
        self,
        counts: Mapping[str, int],
        *,
        safety_ratings: Mapping[str, str] | None = None,
        finish_reason: str | None = None,
        requests: Sequence[BilledRequest] = (),
    ) -> None:
        super().__init__(counts)
        self.safety_ratings = dict(safety_ratings) if safety_ratings is not None else None
        self.finish_reason = finish_reason
        self.requests = tuple(requests)


class LLMCallStrategy(ABC, Generic[TOutput]):
    """One way to make an LLM call, with whatever clients and caches it needs.

    The engine calls `prepare` once per instance and run, before the first item that needs it, `execute` once per
    attempt, and `cleanup` once when the run ends, if `prepare` succeeded. An instance may serve many items at once.

    A strategy may also define `dry_run(prompt: str) -> TOutput`; a dry run then answers with that.
    """

    async def prepare(self) -> None:
        """Create what the calls need. A failure fails the attempt; the next attempt tries again."""

    @abstractmethod
    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[TOutput, dict[str, int]]:
        """Make one call.

        Args:
            prompt: What to send.
            attempt: Which attempt of this item it is: 1, 2, 3, ...
            timeout: Seconds until the engine cancels this call.

        Returns:
            The output and its token usage: `input_tokens`, `output_tokens`, `total_tokens`, and
            `cached_input_tokens` where the provider tells. A `TokenUsage` carries safety ratings too.

        Raises:
            CallFailed: The call failed but was billed: `raise CallFailed(error, token_usage) from error`.
            Exception: Anything; the error classifier decides whether there is another attempt.
        """

    async def cleanup(self) -> None:
        """Give back what `prepare` created."""
