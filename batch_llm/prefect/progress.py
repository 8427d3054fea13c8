"""How far a run is, as an artifact of its page."""

from __future__ import annotations

from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from batch_llm.jobs import BatchJob, Plan, read_progress

from .contained import contained


class ProgressArtifact:
    """The progress artifact of a run, written only when it moved."""

    def __init__(self, job: BatchJob, planned: Plan) -> None:
        self._name = job.name
        self._folder = planned.folder
        self._shown: float | None = None
        self._artifact: UUID | None = None
        self.show()

    def show(self) -> None:
        """Show how far the run is."""
        percent = self._percent()
        if percent == self._shown:
            return
        with contained():
            if self._artifact is None:
                text = f"Items of {self._name} that are done"
                made = create_progress_artifact(percent, key=f"batch-llm-{self._name}-progress", description=text)
                # Prefect's functions are typed for both worlds; in a plain flow they are synchronous.
                self._artifact = cast("UUID", made)
            else:
                update_progress_artifact(self._artifact, percent)
            self._shown = percent

    def _percent(self) -> float:
        progress = read_progress(self._folder)
        return round(100 * progress.done / max(1, progress.total), 1)
