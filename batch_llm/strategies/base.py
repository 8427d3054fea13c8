"""Base class of strategies: the interface that every provider implements, and the token usage of a call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

TOutput = TypeVar("TOutput")


@dataclass(frozen=True, slots=True)
class BilledRequest:
    """One request as the provider bills it; price tiers apply per request, so a sum of several is not enough.

    Attributes:
        units: Billed amounts under the names of genai-prices: `input_tokens`, `cache_write_1h_tokens`, `web_searches`,
            ... Tokens of the cache and of a modality are included in the input or output tokens.
        context: Other facts that determine the price, such as `("service_tier", "flex")`.
        estimated: Number of tokens that are estimated from the length of the texts because the provider reported none.
    """

    units: Mapping[str, float]
    context: tuple[tuple[str, str], ...] = ()
    estimated: int = 0


class TokenUsage(dict[str, int]):
    """Token counts of a call, with further facts about the answer; a plain dict is enough if there are none.

    Attributes:
        safety_ratings: `{category: probability}`; becomes `WorkItemResult.gemini_safety_ratings`.
        finish_reason: Why the answer ended: "stop", "length" at the token limit, "tool_call", "content_filter" or
            "error"; becomes `WorkItemResult.finish_reason`. None if the provider does not report it.
        requests: The single requests that the counts sum up, if they are known.

    Example:
        usage = TokenUsage({"input_tokens": 120, "output_tokens": 40, "total_tokens": 160}, finish_reason="stop")
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
    """Base class of strategies, which make LLM calls with the clients and caches that they need.

    The engine calls `prepare` once per instance and run, before the first item that uses it, `execute` once per
    attempt, and `cleanup` once at the end of the run if `prepare` succeeded. One instance may serve many items
    concurrently.

    A strategy may also define `dry_run(prompt: str) -> TOutput`, which provides the answers of a dry run.

    Example:
        class MyStrategy(LLMCallStrategy[str]):
            async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
                reply = await my_client.complete(prompt)
                return reply.text, {"input_tokens": reply.sent, "output_tokens": reply.received}
    """

    async def prepare(self) -> None:
        """Create the resources that the calls need; an error fails the attempt, and the next attempt calls it again."""

    @abstractmethod
    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[TOutput, dict[str, int]]:
        """Make one call.

        Args:
            prompt: Text to send.
            attempt: Number of the item's attempt: 1, 2, 3, ...
            timeout: Seconds until the engine cancels this call.

        Returns:
            The output and its token usage: `input_tokens`, `output_tokens`, `total_tokens`, and
            `cached_input_tokens` if the provider reports them. A `TokenUsage` may also contain safety ratings.

        Raises:
            CallFailed: The call failed but was billed: `raise CallFailed(error, token_usage) from error`.
            Exception: Any other error; the error classifier decides whether there is another attempt.
        """

    async def cleanup(self) -> None:
        """Release the resources that `prepare` created."""
