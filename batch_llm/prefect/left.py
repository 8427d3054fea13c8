"""The shards of a run that are left, shared with carriers on other machines."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from batch_llm.jobs import BatchJob, Plan, ShardOutcome, ShardRef, ask_to_stop
from batch_llm.jobs.away import exchange_stop, hear_progress
from batch_llm.jobs.claims import Claims, is_superseded
from batch_llm.jobs.folder import open_folder
from batch_llm.jobs.holder import BEAT_SECONDS

LOOK_SECONDS = 3.0


class SharedLeft:
    """Shards that several carriers claim, one after another.

    Args:
        job: The job.
        planned: The plan, with the folder on this machine.
        carrier: Who claims.
        hears: Whether this process shows how far the others are.
    """

    def __init__(self, job: BatchJob, planned: Plan, carrier: str, *, hears: bool) -> None:
        self._run = open_folder(job, planned.folder)
        self._claims = Claims(self._run.kept, planned.shards, carrier)
        self._hears = hears
        self._own: set[str] = set()
        self._heard: list[ShardRef] = []
        self._over = not planned.shards
        self._next_try = self._next_look = 0.0

    def take(self) -> ShardRef | None:
        """Claim one. Where the ledger is away there is none; the sign of life tells when that lasts too long."""
        if self._over or time.monotonic() < self._next_try:
            return None
        with suppress(OSError):
            if shard := self._claims.next():
                self._own.add(shard.part)
                return shard
            self._over = not self._claims.open or self._claims.is_stuck
        self._next_try = time.monotonic() + BEAT_SECONDS
        return None

    def done(self, shard: ShardRef, result: Any) -> None:
        """Let nobody claim one again that is done; one that ended early for this machine's sake goes to others."""
        self._next_look = 0.0
        with suppress(OSError):  # others will find nothing left to do in it
            if isinstance(result, ShardOutcome) and not result.not_attempted:
                self._claims.done(shard)
            elif isinstance(result, ShardOutcome) and not result.stopped and not is_superseded(self._run.kept, shard):
                ask_to_stop(self._run.path, "a shard that ended early", here=True)

    def look(self) -> None:
        """Exchange news with the other machines, in some seconds; called again and again while shards run."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        with suppress(OSError):
            exchange_stop(self._run)
            if self._hears:
                self._claims.look()
                claimed = [shard for shard in self._claims.claimed if shard.part not in self._own]
                hear_progress(self._run, {shard.part: shard for shard in [*self._heard, *claimed]}.values())
                self._heard = claimed  # once more after the end of each, for its last word

    @property
    def is_empty(self) -> bool:
        """Whether none will ever be to be had again."""
        return self._over
