"""Progress of a run as an artifact on its page."""

from __future__ import annotations

import time
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from batch_llm.jobs import Progress
from batch_llm.jobs.ledger.progress_line import BETWEEN, Rate, facts, waits
from batch_llm.prefect.best_effort import best_effort

WRITE_SECONDS = 5.0
"""Seconds between two writes, because each write is also an event."""


class ProgressArtifact:
    """The progress artifact of a run, written only when it changes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._writes_at = 0.0
        self._shown: float | None = None
        self._retries_at = 0.0
        self._artifact: UUID | None = None
        self._rate = Rate()

    def show(self, progress: Progress, *, last: bool = False) -> None:
        """Update the artifact; `last` writes it without waiting."""
        if progress.total:
            self._rate.update(progress.done, waits=waits(progress))
        percent = round(100 * progress.done / max(1, progress.total), 1)
        retries_at = progress.retry.at if progress.retry else 0.0
        is_news = worth_showing(self._shown, percent) or retries_at != self._retries_at
        if not is_news or (time.monotonic() < self._writes_at and not last):
            return
        self._writes_at = time.monotonic() + WRITE_SECONDS
        with best_effort():
            text = self._text(progress)
            if self._artifact is None:
                made = create_progress_artifact(percent, key=f"batch-llm-{self._name}-progress", description=text)
                # Prefect's functions are typed for sync and async; in a plain flow they are synchronous.
                self._artifact = cast("UUID", made)
            else:
                update_progress_artifact(self._artifact, percent, description=text)
            self._shown, self._retries_at = percent, retries_at

    def _text(self, progress: Progress) -> str:
        count = f"{progress.done:,} of {progress.total:,} items of {self._name} done"
        return f"{count}{BETWEEN}{facts(progress, self._rate.per_second, clock_time=True)}"


def worth_showing(shown: float | None, percent: float) -> bool:
    """Return whether the percentage rose by one or reached 100: each write is an event, and runs may take days."""
    return shown is None or (percent != shown and (abs(percent - shown) >= 1 or percent == 100))
