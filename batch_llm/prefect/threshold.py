"""Tells, while a run is still at work, that more items have failed than its job allows."""

from __future__ import annotations

from batch_llm.jobs import BatchJob, Progress

from .events import RunEvents


class Threshold:
    """Emits `failures.threshold` once a run; whether the run goes on is for whoever hears it to decide."""

    def __init__(self, job: BatchJob, events: RunEvents) -> None:
        self._allowed = job.failure_threshold
        self._events = events
        self._told = False

    def look(self, progress: Progress) -> None:
        """Tell if it is so; a later try of a shard may still answer what has failed."""
        if self._told or progress.failed <= self._allowed * progress.total:
            return
        self._told = True
        payload = {"failed": progress.failed, "total": progress.total, "failure_threshold": self._allowed}
        self._events.emit("failures.threshold", {**payload, "categories": progress.categories})
