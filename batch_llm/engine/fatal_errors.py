"""Detection of errors that affect the whole run, so that no further call can succeed."""

from __future__ import annotations

from batch_llm.errors import FATAL_CATEGORIES
from batch_llm.pacing.pacer import PacerState

_IN_A_ROW = {"auth": 10, "forbidden": 10, "not_found": 5}
"""Categories that may concern a single request, with the number of consecutive errors after which the run stops.

Providers and firewalls use 403, the status of a wrong key, also for a single prompt that violates a policy. Such
prompts come in clusters if a source is sorted. A 404 never concerns the prompt.
"""

_OF_THE_ITEM = frozenset({"validation", "content_filter"})
"""Categories of failures that occur only with an accepted key."""


class FatalErrorCounter:
    """Counter of consecutive denied calls, which decides whether an error ends the run.

    `quota_exhausted` and `model_not_found` stop a run immediately. `auth` does so as long as no call was answered, by
    this run or by another one with the same governor; after that, only several consecutive errors do, as for the other
    categories that may concern a single request.

    Args:
        state: State of the pacer, which has whether a call was ever answered.

    Attributes:
        in_a_row: Number of calls that were denied since the latest answer.
    """

    def __init__(self, state: PacerState) -> None:
        self._state = state
        self.in_a_row = 0

    def record(self, category: str) -> bool:
        """Record a failed call; return whether it ends the run, because no further call can succeed."""
        if category in _IN_A_ROW:
            self.in_a_row += 1
            never_answered = category in FATAL_CATEGORIES and not self._state.has_answered
            return never_answered or self.in_a_row >= _IN_A_ROW[category]
        if category in _OF_THE_ITEM:
            self.in_a_row = 0
        return category in FATAL_CATEGORIES
