"""Whether an error is about the run rather than about one item, so that no further call can succeed."""

from __future__ import annotations

from batch_llm.errors import FATAL_CATEGORIES
from batch_llm.pacing.pacer import Pacer

_IN_A_ROW = {"auth": 10, "forbidden": 10, "not_found": 5}
"""Categories that may be about a single request, and after how many of them in a row they are not.

Providers and firewalls use the status of a bad key, 403, for a single prompt that breaks a rule as well. Such prompts
come in clusters where a source is sorted; nobody's 404 is about a prompt.
"""

_OF_THE_ITEM = frozenset({"validation", "content_filter"})
"""Failures that only an accepted key leads to."""


class Denials:
    """Counts the calls in a row that were denied.

    `quota_exhausted` and `model_not_found` end a run at once. `auth` does as long as no call was answered, by this run
    or by another one with the same governor; after that only several in a row do, as for the other categories that
    may be about one request.

    Args:
        pacer: Knows whether a call was ever answered.

    Attributes:
        in_a_row: The calls that were denied since the latest answer, which sets this to 0.
    """

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self.in_a_row = 0

    def ends_run(self, category: str) -> bool:
        """Note a failed call; return whether no further call can succeed."""
        if category in _IN_A_ROW:
            self.in_a_row += 1
            never_answered = category in FATAL_CATEGORIES and not self._pacer.has_answered
            return never_answered or self.in_a_row >= _IN_A_ROW[category]
        if category in _OF_THE_ITEM:
            self.in_a_row = 0
        return category in FATAL_CATEGORIES
