"""Finish reasons of pydantic-ai responses: blocked, truncated and broken-off answers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from batch_llm.errors import AnswerTruncated, ContentFiltered

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelResponse

log = logging.getLogger(__name__)

_LONGEST_REFUSAL = 300


class FinishReasons:
    """Checks of the finish reasons of a strategy's answers; the warning about the token limit is logged once."""

    def __init__(self) -> None:
        self._warned_of_limit = False

    def raise_if_blocked(self, finish_reason: str | None, details: Mapping[str, Any] | None = None) -> None:
        """Check that the answer was not blocked.

        Args:
            finish_reason: Finish reason of the answer, as pydantic-ai names it.
            details: Details from the provider, `ModelResponse.provider_details`.

        Raises:
            ContentFiltered: The answer was blocked; the message contains the provider's reason.
        """
        if finish_reason == "content_filter":
            raise ContentFiltered(_why_blocked(details or {}))

    def warn_if_truncated(self, finish_reason: str | None) -> None:
        """Log a warning, once, if an accepted answer was cut off at the token limit."""
        if finish_reason == "length" and not self._warned_of_limit:
            self._warned_of_limit = True
            log.warning("An answer was cut off at the token limit; raise max_tokens if answers must be complete.")


def is_broken_off(finish_reason: str | None, details: Mapping[str, Any] | None) -> bool:
    """Return whether the provider broke off an answer for a reason that is unrelated to the request.

    Examples are Gemini's OTHER, LANGUAGE and MALFORMED_FUNCTION_CALL, and unknown reasons: feedback to the model does
    not help then. A response without any candidate has no reason at all.
    """
    return finish_reason == "error" or (finish_reason is None and not _ends_as_usual(details))


def check_complete(response: ModelResponse) -> None:
    """Check that a response of Anthropic is complete: pydantic-ai accepts a stream that ends early.

    Raises:
        ConnectionError: The response has no finish reason.
    """
    has_ended = response.finish_reason or (response.provider_details or {}).get("finish_reason")
    if response.provider_name == "anthropic" and not has_ended:
        raise ConnectionError("the stream of the answer ended before its end")


def _ends_as_usual(details: Mapping[str, Any] | None) -> bool:
    return str((details or {}).get("finish_reason", "")).lower() in ("stop", "eos", "eos_token", "end_turn", "end")


def _why_blocked(details: Mapping[str, Any]) -> str:
    if refusal := details.get("refusal"):
        return f"the model refused: {str(refusal)[:_LONGEST_REFUSAL]}"
    words = [details.get("block_reason"), details.get("block_reason_message"), details.get("refusal_category")]
    words += [*_filters(details.get("content_filter_result")), details.get("finish_reason")]
    reasons = ", ".join(str(word) for word in words if word and word != "content_filter")
    return "the provider's content filter stopped the answer" + (f" ({reasons})" if reasons else "")


def _filters(result: object) -> list[str]:
    """Return the categories for which Azure blocked a prompt."""
    if not isinstance(result, dict):
        return []
    filters = cast("dict[str, Any]", result)
    return [name for name, found in filters.items() if isinstance(found, dict) and found.get("filtered")]  # pyright: ignore[reportUnknownMemberType]  a provider's own


def truncation_error(response: ModelResponse, limit: int | None) -> AnswerTruncated:
    """Return the error for a response that was cut off at the token limit and contains no valid answer."""
    from pydantic_ai.messages import TextPart

    begun = response.tool_calls or any(isinstance(part, TextPart) and part.content.strip() for part in response.parts)
    return AnswerTruncated(truncation_message(response.usage.output_tokens, limit, begun=bool(begun)))


def truncation_message(tokens: int, limit: int | None, *, begun: bool) -> str:
    """Return the message for an answer that was cut off at the token limit, with the fix.

    Args:
        tokens: Number of output tokens of the response.
        limit: The setting `max_tokens`; None if it is not set.
        begun: Whether the response contains a part of an answer, and not only thoughts.
    """
    before = "" if begun else " before there was an answer (thoughts count, too)"
    after = f" after {tokens:,} tokens" if tokens else ""
    now = f", which is {limit:,}," if limit is not None else ""
    return f"the answer was cut off at the token limit{after}{before}: raise max_tokens{now} in model_settings"
