"""The right to work on a job's ledger, waited for where the run's log, its events and the terminal show it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

from prefect.logging import get_run_logger

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob, hold, job_store, publish_waiting, request_stop, run_folder
from batch_llm.jobs.ledger.run_folder import prepare_ledger

from .telemetry.events import RunEvents


@contextmanager
def lease(job: BatchJob, run_id: str, events: RunEvents) -> Generator[int]:
    """Have the job's ledger to ourselves: what another run is answering now need not be paid twice.

    Yields:
        The lease's number.

    Raises:
        JobError: The ledger cannot be written.
    """
    if job.ledger.startswith("memory://"):
        raise JobError(
            f"ledger {job.ledger} keeps nothing once the process ends: name a folder, or a bucket as s3://..."
        )
    folder, store, logger = run_folder(job, run_id), job_store(job), get_run_logger()
    prepare_ledger(job)
    logger.info("The ledger is %s", store.address)

    def wait(other: str) -> None:
        logger.warning("Waiting for %s: it works on the same ledger, and what it answers is not paid again", other)
        publish_waiting(folder.path, other)
        events.emit("run.waiting", {"waits_for": other})

    try:
        with hold(store, run_id, waits_for=wait, lost=partial(request_stop, folder.path)) as number:
            publish_waiting(folder.path, None)
            yield number
    finally:
        publish_waiting(folder.path, None)
