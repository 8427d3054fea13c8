"""Totals of a run, and its progress in the log."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from batch_llm.items import AnyResult

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Totals:
    """Totals over the finished items of one run."""

    succeeded: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def completed(self) -> int:
        """Number of items with a result."""
        return self.succeeded + self.failed

    def count(self, result: AnyResult, total: int, log_every: int) -> None:
        """Add a result, and log the progress, out of `total` items, after every `log_every` results."""
        if result.success:
            self.succeeded += 1
        else:
            self.failed += 1
        self.input_tokens += result.token_usage.get("input_tokens", 0)
        self.output_tokens += result.token_usage.get("output_tokens", 0)
        if (self.succeeded + self.failed) % log_every == 0:
            logger.info("%s of %s items done, %s failed", self.completed, total, self.failed)

    def log_end(self, total: int, cancelled: bool) -> None:
        """Log the totals at the end of the run."""
        how = "was cancelled" if cancelled else "completed"
        logger.info("The run %s: %s of %s items done, %s failed", how, self.completed, total, self.failed)
