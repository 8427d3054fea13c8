"""What a response of pydantic-ai tells beside its answer: why it ended and what it cost."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from batch_llm.errors import ContentFiltered

if TYPE_CHECKING:
    from pydantic_ai.usage import UsageBase

log = logging.getLogger(__name__)


class Endings:
    """Judges why answers ended; warns of the token limit once."""

    def __init__(self) -> None:
        self._warned_of_limit = False

    def refuse_filtered(self, finish_reason: str | None) -> None:
        """See that the answer was not blocked.

        Raises:
            ContentFiltered: It was, so what there is of it is no answer.
        """
        if finish_reason == "content_filter":
            raise ContentFiltered("the provider's content filter stopped the answer")

    def note_limit(self, finish_reason: str | None) -> None:
        """Warn if an answer that is taken was cut off."""
        if finish_reason == "length" and not self._warned_of_limit:
            self._warned_of_limit = True
            log.warning("An answer was cut off at the token limit; raise max_tokens if answers must be whole.")


def tokens_of(*usages: UsageBase) -> dict[str, int]:
    """Sum what was billed, under the names that every strategy gives."""
    tokens = {
        "input_tokens": sum(usage.input_tokens for usage in usages),
        "output_tokens": sum(usage.output_tokens for usage in usages),
        "total_tokens": sum(usage.total_tokens for usage in usages),
    }
    cached = sum(usage.cache_read_tokens for usage in usages)
    return tokens | ({"cached_input_tokens": cached} if cached else {})
