"""What a response of pydantic-ai tells beside its answer: why it ended."""

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
    """Judges why answers ended; warns of the token limit once."""

    def __init__(self) -> None:
        self._warned_of_limit = False

    def raise_if_blocked(self, finish_reason: str | None, details: Mapping[str, Any] | None = None) -> None:
        """Check that the answer was not blocked.

        Args:
            finish_reason: Why it ended, as pydantic-ai names it.
            details: What the provider says itself, `ModelResponse.provider_details`.

        Raises:
            ContentFiltered: It was, so what there is of it is no answer; with the provider's words.
        """
        if finish_reason == "content_filter":
            raise ContentFiltered(_why_blocked(details or {}))

    def warn_if_truncated(self, finish_reason: str | None) -> None:
        """Warn if an answer that is taken was cut off."""
        if finish_reason == "length" and not self._warned_of_limit:
            self._warned_of_limit = True
            log.warning("An answer was cut off at the token limit; raise max_tokens if answers must be whole.")


def is_broken_off(finish_reason: str | None, details: Mapping[str, Any] | None) -> bool:
    """Whether the provider ended an answer for a reason of its own, which has nothing to do with what was asked.

    Gemini's OTHER, LANGUAGE and MALFORMED_FUNCTION_CALL are such, and words that are not known: to tell the model what
    was wrong with its answer is of no use then. A response without any candidate gives no reason at all.
    """
    return finish_reason == "error" or (finish_reason is None and not _ends_as_usual(details))


def _ends_as_usual(details: Mapping[str, Any] | None) -> bool:
    return str((details or {}).get("finish_reason", "")).lower() in ("stop", "eos", "eos_token", "end_turn", "end")


def _why_blocked(details: Mapping[str, Any]) -> str:
    if refusal := details.get("refusal"):
        return f"the model refused: {str(refusal)[:_LONGEST_REFUSAL]}"
    words = [details.get("block_reason"), details.get("block_reason_message"), details.get("refusal_category")]
    words += [*_filters(details.get("content_filter_result")), details.get("finish_reason")]
    said = ", ".join(str(word) for word in words if word and word != "content_filter")
    return "the provider's content filter stopped the answer" + (f" ({said})" if said else "")


def _filters(result: object) -> list[str]:
    """Return the categories for which Azure blocked a prompt."""
    if not isinstance(result, dict):
        return []
    filters = cast("dict[str, Any]", result)
    return [name for name, found in filters.items() if isinstance(found, dict) and found.get("filtered")]  # pyright: ignore[reportUnknownMemberType]  a provider's own


def truncation_error(response: ModelResponse, limit: int | None) -> AnswerTruncated:
    """Return the error for a response that the token limit cut off, so that there is no answer in it."""
    from pydantic_ai.messages import TextPart

    begun = response.tool_calls or any(isinstance(part, TextPart) and part.content.strip() for part in response.parts)
    return AnswerTruncated(truncation_message(response.usage.output_tokens, limit, begun=bool(begun)))


def truncation_message(tokens: int, limit: int | None, *, begun: bool) -> str:
    """Return that an answer was cut off, and what to do.

    Args:
        tokens: How many it had.
        limit: The setting `max_tokens`; None where there is none.
        begun: Whether there was a part of an answer, or thoughts alone.
    """
    before = "" if begun else " before there was an answer (thoughts count, too)"
    after = f" after {tokens:,} tokens" if tokens else ""
    now = f", which is {limit:,}," if limit is not None else ""
    return f"the answer was cut off at the token limit{after}{before}: raise max_tokens{now} in model_settings"
