"""State of one item during its attempts, and its result."""

from __future__ import annotations

from typing import Any

from batch_llm.errors import ErrorInfo
from batch_llm.items import AnyResult, WorkItemResult
from batch_llm.strategies.base import BilledRequest, TokenUsage

from .user_values import MOST_TOKENS, counts_in, in_words

_NONE_YET = object()


class ItemState:
    """Calls, tokens and last error of one item.

    Attributes:
        attempt: Number of the next or current attempt; calls that end in a rate limit do not count as attempts.
        calls: Number of completed calls.
        limited: Number of calls that ended in a rate limit.
        unsent: Number of calls that were never sent; they do not count as attempts either.
    """

    # Defaults of the class: most items change few of them, and every item has a state.
    attempt: int = 1
    calls: int = 0
    limited: int = 0
    unsent: int = 0
    ratings: dict[str, str] | None = None
    finish_reason: str | None = None
    requests: tuple[BilledRequest, ...] = ()
    error: Exception | None = None
    info: ErrorInfo | None = None

    def __init__(self) -> None:
        self.tokens: dict[str, int] = {}

    def bill(self, usage: dict[str, int]) -> dict[str, int]:
        """Add the tokens of a call, and return them without invalid counts, which would break sums."""
        for key, count in usage.items():
            if type(count) is not int or not 0 <= count <= MOST_TOKENS or type(key) is not str:
                counts = counts_in(usage)
                break
        else:
            counts = usage
        if self.tokens:
            for key, count in counts.items():
                self.tokens[key] = self.tokens.get(key, 0) + count
        else:
            self.tokens = dict(counts) if type(counts) in (dict, TokenUsage) else dict(counts.items())
        if type(usage) is not dict and isinstance(usage, TokenUsage):
            self.finish_reason = usage.finish_reason
            if usage.requests:
                self.requests += usage.requests
            if usage.safety_ratings is not None:
                self.ratings = usage.safety_ratings
        return counts

    def result(self, item_id: str, context: Any, output: Any = _NONE_YET) -> AnyResult:
        """Return the result of the item: its output, else its last error, else `not_attempted`."""
        success = output is not _NONE_YET
        tokens = TokenUsage(self.tokens, requests=self.requests) if self.requests else self.tokens
        result: AnyResult = WorkItemResult(
            item_id,
            success,
            output if success else None,
            None,
            context,
            tokens,
            self.ratings,
            attempts=self.calls,
            finish_reason=self.finish_reason,
        )
        if success:
            return result
        if self.error is not None:
            result.error, result.error_info = in_words(self.error, self.info), self.info
        else:
            result.error = "Not attempted: the run stopped early"
            result.error_info = ErrorInfo(is_retryable=True, category="not_attempted")
        return result


def skipped(item_id: str, context: Any) -> AnyResult:
    """Return the result of an item that a middleware dropped."""
    info = ErrorInfo(is_retryable=False, category="skipped")
    return WorkItemResult(item_id, False, error="Skipped by middleware", context=context, error_info=info)


def cancelled(item_id: str, duration: float) -> AnyResult:
    """Return the result that observers receive for an item that was running when its run was cancelled."""
    info = ErrorInfo(is_retryable=True, category="cancelled")
    return WorkItemResult(item_id, False, error="The run was cancelled", error_info=info, duration_seconds=duration)
