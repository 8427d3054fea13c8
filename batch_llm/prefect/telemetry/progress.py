"""How far a run is, as an artifact of its page."""

from __future__ import annotations

import time
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from batch_llm.jobs import Progress
from batch_llm.prefect.best_effort import contained

WRITE_SECONDS = 5.0
"""Between two writes, each of which is an event as well."""


class ProgressArtifact:
    """The progress artifact of a run, written only when it moved."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._writes_at = 0.0
        self._shown: float | None = None
        self._artifact: UUID | None = None

    def show(self, progress: Progress, *, last: bool = False) -> None:
        """Show how far the run is; at once where it is the last time."""
        percent = round(100 * progress.done / max(1, progress.total), 1)
        if not worth_showing(self._shown, percent) or (time.monotonic() < self._writes_at and not last):
            return
        self._writes_at = time.monotonic() + WRITE_SECONDS
        with contained():
            if self._artifact is None:
                text = f"Items of {self._name} that are done"
                made = create_progress_artifact(percent, key=f"batch-llm-{self._name}-progress", description=text)
                # Prefect's functions are typed for both worlds; in a plain flow they are synchronous.
                self._artifact = cast("UUID", made)
            else:
                update_progress_artifact(self._artifact, percent)
            self._shown = percent


def worth_showing(shown: float | None, percent: float) -> bool:
    """Whether a whole percent has passed, or the run is done: each write is an event, and a run may take days."""
    return shown is None or (percent != shown and (abs(percent - shown) >= 1 or percent == 100))
