"""Totals of a run, and its progress in the log."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from batch_llm.items import AnyResult

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Totals:
    """Totals over the items of one run; `total` is the number of items added so far."""

    total: int = 0
    succeeded: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def completed(self) -> int:
        """Number of items with a result."""
        return self.succeeded + self.failed

    def count(self, result: AnyResult, log_every: int) -> None:
        """Add a result, and log the progress after every `log_every` results."""
        if result.success:
            self.succeeded += 1
        else:
            self.failed += 1
        self.input_tokens += result.token_usage.get("input_tokens", 0)
        self.output_tokens += result.token_usage.get("output_tokens", 0)
        if (self.succeeded + self.failed) % log_every == 0:
            logger.info("%s of %s items done, %s failed", self.completed, self.total, self.failed)

    def log_end(self, cancelled: bool) -> None:
        """Log the totals at the end of the run."""
        how = "was cancelled" if cancelled else "completed"
        logger.info("The run %s: %s of %s items done, %s failed", how, self.completed, self.total, self.failed)
