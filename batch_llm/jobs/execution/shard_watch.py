"""Watcher of a running shard: stops it when requested or superseded, and publishes its progress."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from batch_llm.jobs.ledger.claims import is_superseded
from batch_llm.jobs.ledger.heartbeat import HEARTBEAT_SECONDS, STALE_SECONDS
from batch_llm.jobs.ledger.lease import newest_lease
from batch_llm.jobs.ledger.records import LedgerWriter
from batch_llm.jobs.ledger.remote_run import exchange_stop, publish_progress
from batch_llm.jobs.ledger.run_folder import RunFolder
from batch_llm.jobs.run_types import ShardRef

LOOK_SECONDS = 0.5
"""Interval at which local files are checked."""

FAR_LOOK_SECONDS = 3.0
"""Interval at which a ledger in a bucket is checked."""

LATE_SECONDS = 3 * HEARTBEAT_SECONDS
"""No call starts without a new check if the last check is older than this."""

MAX_UNCHECKED_SECONDS = STALE_SECONDS - LATE_SECONDS
"""A shard that cannot check its ledger for this long stops, because others may consider it dead."""


class ShardWatch:
    """Watcher that checks whether this process should continue to run a shard."""

    def __init__(self, run: RunFolder, shard: ShardRef) -> None:
        self._run, self._shard = run, shard
        self._checked_at = time.monotonic()

    async def supervise(self, ledger: LedgerWriter, stop: Callable[[], None]) -> None:
        """Call `stop` on a stop request, or when another run has the ledger or another process has claimed the shard.

        At each check, the progress is published and the ledger is synced to disk, so a power failure loses at most
        half a second of answers.
        """
        between = FAR_LOOK_SECONDS if self._run.is_remote else 0.0
        while not self._run.stop.exists():
            if self._seconds_since_check() >= between and await self.is_over():
                break
            with suppress(OSError):  # the next write reports the error
                await asyncio.to_thread(ledger.sync)
            await asyncio.sleep(LOOK_SECONDS)
        stop()

    @property
    def is_late(self) -> bool:
        """Whether the last check is so old that no call may start without a new one.

        A process that was suspended, or a machine that was disconnected, may have lost its shard in the meantime.
        """
        return self._seconds_since_check() > LATE_SECONDS

    async def is_over(self) -> bool:
        """Return whether this process should stop running the shard."""
        try:
            is_over = await asyncio.to_thread(self._check_ledger)
        except OSError:  # the flow's process reports a ledger that stays unreachable
            return self._seconds_since_check() > MAX_UNCHECKED_SECONDS
        self._checked_at = time.monotonic()
        return is_over

    def _check_ledger(self) -> bool:
        exchange_stop(self._run)
        publish_progress(self._run, self._shard)
        lease = self._shard.lease
        is_anothers = lease > 0 and newest_lease(self._run.runs) > lease
        return is_anothers or self._run.stop.exists() or is_superseded(self._run.store, self._shard)

    def _seconds_since_check(self) -> float:
        return time.monotonic() - self._checked_at
