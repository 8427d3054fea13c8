"""Exclusive lease on a job's ledger; waiting for it is shown in the log, in events and in the terminal."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

from prefect.logging import get_run_logger

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob, RunFolder, hold_lease, publish_waiting, request_stop
from batch_llm.jobs.ledger.run_folder import prepare_ledger

from .telemetry.events import RunEvents


@contextmanager
def lease(job: BatchJob, run: RunFolder, events: RunEvents) -> Generator[int]:
    """Hold the lease of the job's ledger, so that two runs do not call the same items.

    Yields:
        Number of the lease.

    Raises:
        JobError: The ledger cannot be written.
    """
    if job.ledger.startswith("memory://"):
        raise JobError(f"ledger {job.ledger} is lost when the process exits: set a folder, or a bucket as s3://...")
    logger = get_run_logger()
    prepare_ledger(job, run.runs)
    logger.info("Ledger: %s", run.runs.address)

    def wait(other: str) -> None:
        logger.warning("Waiting for %s: it uses the same ledger, and its answers are reused", other)
        publish_waiting(run.path, other)
        events.emit("run.waiting", {"waits_for": other})

    try:
        with hold_lease(run.runs, run.path.name, waits_for=wait, lost=partial(request_stop, run.path)) as number:
            publish_waiting(run.path, None)
            yield number
    finally:
        publish_waiting(run.path, None)
