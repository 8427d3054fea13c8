"""What is to end a shard that is at work, and what is told of it meanwhile to other machines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.ledger.claims import is_superseded
from batch_llm.jobs.ledger.heartbeat import HEARTBEAT_SECONDS, STALE_SECONDS
from batch_llm.jobs.ledger.lease import newest_lease
from batch_llm.jobs.ledger.records import LedgerWriter
from batch_llm.jobs.ledger.remote_run import exchange_stop, publish_progress
from batch_llm.jobs.ledger.run_folder import RunFolder, job_store
from batch_llm.jobs.run_types import ShardRef

LOOK_SECONDS = 0.5
FAR_LOOK_SECONDS = 3.0
"""Between two looks into a bucket."""

LATE_SECONDS = 3 * HEARTBEAT_SECONDS
MAX_UNCHECKED_SECONDS = STALE_SECONDS - LATE_SECONDS
"""A shard that cannot look into its ledger for so long stops: others may take it for dead."""


class ShardWatch:
    """Looks whether a shard is still to be worked on, and by us."""

    def __init__(self, job: BatchJob, run: RunFolder, shard: ShardRef) -> None:
        self._run, self._shard = run, shard
        self._store = job_store(job)
        self._checked_at = time.monotonic()

    async def watch(self, ledger: LedgerWriter, stop: Callable[[], None]) -> None:
        """Stop when somebody asks for it, and when another run has the ledger or another carrier the shard.

        Meanwhile see to it that a machine that loses its power loses no more than half a second of answers.
        """
        between = FAR_LOOK_SECONDS if self._run.is_remote else 0.0
        while not self._run.stop.exists():
            if self._seconds_since_check() >= between and await self.is_over():
                break
            with suppress(OSError):  # the next write tells
                await asyncio.to_thread(ledger.sync)
            await asyncio.sleep(LOOK_SECONDS)
        stop()

    @property
    def is_late(self) -> bool:
        """Whether the last look is so long ago that no further call may start without another one.

        A process that was stopped and goes on, a machine that was cut off and is back, may have lost its shard.
        """
        return self._seconds_since_check() > LATE_SECONDS

    async def is_over(self) -> bool:
        """Look whether the shard is to end here."""
        try:
            is_over = await asyncio.to_thread(self._check_ledger)
        except OSError:  # the flow's own process tells when the ledger stays away
            return self._seconds_since_check() > MAX_UNCHECKED_SECONDS
        self._checked_at = time.monotonic()
        return is_over

    def _check_ledger(self) -> bool:
        exchange_stop(self._run)
        publish_progress(self._run, self._shard)
        lease = self._shard.lease
        is_anothers = lease > 0 and newest_lease(self._store) > lease
        return is_anothers or self._run.stop.exists() or is_superseded(self._run.store, self._shard)

    def _seconds_since_check(self) -> float:
        return time.monotonic() - self._checked_at
