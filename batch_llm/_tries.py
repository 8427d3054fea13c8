"""What one item has been through, and the result that comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .classifiers.network_causes import network_cause
from .errors import ErrorInfo
from .items import AnyResult, AnyWorkItem, WorkItemResult
from .strategies.base import TokenUsage

_NONE_YET = object()


def _none() -> dict[str, int]:  # calling `dict[str, int]` takes seven times as long
    return {}


@dataclass(slots=True)
class Tries:
    """The account of one item: its own, so nothing is pinned onto exceptions and nothing counts twice.

    Attributes:
        attempt: The attempt that is next or under way; tries that end in a rate limit do not count.
        calls: Tries that ended.
        limited: Those of them that ended in a rate limit.
        unsent: Those of them that never reached the provider, and don't count as attempts either.
    """

    attempt: int = 1
    calls: int = 0
    limited: int = 0
    unsent: int = 0
    tokens: dict[str, int] = field(default_factory=_none)
    ratings: dict[str, str] | None = None
    finish_reason: str | None = None
    error: Exception | None = None
    info: ErrorInfo | None = None

    def bill(self, usage: dict[str, int]) -> None:
        """Add what a call cost; counts that are no whole numbers are left out, as a sum must not break on them."""
        tokens = self.tokens
        for key, count in usage.items():
            if type(count) is int:
                tokens[key] = tokens.get(key, 0) + count
        if isinstance(usage, TokenUsage):
            self.finish_reason = usage.finish_reason
            if usage.safety_ratings is not None:
                self.ratings = usage.safety_ratings

    def result(self, item: AnyWorkItem, output: Any = _NONE_YET) -> AnyResult:
        """Return the result of `item`: with its output, or else with its last error, or not attempted."""
        success = output is not _NONE_YET
        result: AnyResult = WorkItemResult(
            item.item_id, success, context=item.context, token_usage=self.tokens, attempts=self.calls
        )
        result.gemini_safety_ratings = self.ratings
        result.finish_reason = self.finish_reason
        if success:
            result.output = output
        elif self.error is not None:
            result.error, result.error_info = in_words(self.error, self.info), self.info
        else:
            result.error = "Not attempted: the run ended early"
            result.error_info = ErrorInfo(is_retryable=True, category="not_attempted")
        return result


def skipped(item: AnyWorkItem) -> AnyResult:
    """Return the result of an item that a middleware dropped."""
    info = ErrorInfo(is_retryable=False, category="skipped")
    return WorkItemResult(item.item_id, False, error="Skipped by middleware", context=item.context, error_info=info)


def cancelled(item: AnyWorkItem, duration: float) -> AnyResult:
    """Return what observers are told of an item that was under way when its run was cancelled."""
    info = ErrorInfo(is_retryable=True, category="cancelled")
    return WorkItemResult(
        item.item_id, False, error="The run was cancelled", error_info=info, duration_seconds=duration
    )


def in_words(error: Exception, info: ErrorInfo | None = None) -> str:
    """Return type and text of `error`, and, where it broke a connection, of what host and by what."""
    try:
        text = str(error)
    except Exception:  # an SDK's exception that cannot say what it is must not end the batch
        text = ""
    name = type(error).__name__
    said = f"{name}: {text}" if text else name
    if info is not None and (info.category == "connection" or info.never_sent) and (cause := network_cause(error)):
        return f"{said.rstrip('. ')}: {cause}"
    return said
