"""State of one item during its attempts, and its result."""

from __future__ import annotations

from typing import Any

from batch_llm.errors import ErrorInfo
from batch_llm.items import AnyResult, WorkItemResult
from batch_llm.strategies.base import BilledRequest, TokenUsage

from .user_values import counts_in, in_words

_NONE_YET = object()

_MANY_TOKENS = 10**9
_USUAL_KEYS = frozenset({"input_tokens", "output_tokens", "total_tokens", "cached_input_tokens"})
"""Usage within these limits is valid; any other is examined by `counts_in`, which takes longer."""


class ItemState:
    """Calls, tokens and last error of one item.

    Attributes:
        attempt: Number of the next or current attempt; calls that end in a rate limit do not count as attempts.
        calls: Number of completed calls.
        limited: Number of calls that ended in a rate limit.
        never_sent: Number of calls that were never sent; they do not count as attempts either.
        call_seconds: Duration of the last call.
    """

    __slots__ = (
        "attempt",
        "call_seconds",
        "calls",
        "error",
        "finish_reason",
        "info",
        "limited",
        "never_sent",
        "ratings",
        "requests",
        "tokens",
    )

    def __init__(self) -> None:
        self.attempt = 1
        self.calls = self.limited = self.never_sent = 0
        self.call_seconds = 0.0
        self.tokens: dict[str, int] | None = None
        self.ratings: dict[str, str] | None = None
        self.finish_reason: str | None = None
        self.requests: tuple[BilledRequest, ...] = ()
        self.error: Exception | None = None
        self.info: ErrorInfo | None = None

    def bill(self, usage: dict[str, int]) -> dict[str, int]:
        """Add the tokens of a call, and return them without invalid counts, which would break sums."""
        counts = usage
        for key, count in usage.items():
            if type(count) is not int or count < 0 or count > _MANY_TOKENS or key not in _USUAL_KEYS:
                counts = counts_in(usage)
                break
        if self.tokens is not None:
            for key, count in counts.items():
                self.tokens[key] = self.tokens.get(key, 0) + count
        else:
            self.tokens = dict(counts) if type(counts) is dict else dict(counts.items())
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
        tokens = self.tokens if self.tokens is not None else {}
        if self.requests:
            tokens = TokenUsage(tokens, requests=self.requests)
        result: AnyResult = WorkItemResult(
            item_id,
            success,
            output if success else None,
            None,
            context,
            tokens,
            self.ratings,
            attempts=self.calls,
            call_seconds=self.call_seconds,
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
