"""The shards of a run that are left, shared with carriers on other machines."""

from __future__ import annotations

import time
from contextlib import suppress
from itertools import islice

from batch_llm.jobs import BatchJob, BudgetShare, JournaledAllocator, Plan, ShardOutcome, ShardRef, request_stop
from batch_llm.jobs.ledger.claims import Claims, is_superseded
from batch_llm.jobs.ledger.heartbeat import HEARTBEAT_SECONDS
from batch_llm.jobs.ledger.remote_run import exchange_stop, fetch_progress
from batch_llm.jobs.ledger.run_folder import open_folder

LOOK_SECONDS = 3.0


class ClaimedShards:
    """Shards that several carriers claim, one after another.

    Args:
        job: The job.
        planned: The plan, with the folder on this machine.
        carrier: Who claims.
        budget: What they may spend.
        hears: Whether this process shows how far the others are.
    """

    def __init__(self, job: BatchJob, planned: Plan, carrier: str, budget: JournaledAllocator, *, hears: bool) -> None:
        self._run = open_folder(job, planned.folder)
        self._claims = Claims(self._run.store, planned.shards, carrier)
        self._budget, self._hears = budget, hears
        self._kept: list[ShardRef] = []  # claimed, and waiting for a share
        self._ended: list[tuple[ShardRef, ShardOutcome]] = []  # and not told yet
        self._own: set[str] = set()
        self._heard: list[ShardRef] = []
        self._over = not planned.shards
        self._next_try = self._next_look = 0.0

    def take(self, at_once: int) -> tuple[ShardRef, BudgetShare] | None:
        """Claim one, with a share of what is left for so many at once.

        Where the ledger is away there is none; the sign of life tells when that lasts too long.
        """
        if self._over or time.monotonic() < self._next_try:
            return None
        with suppress(OSError):
            self._tell()
            self._budget.read()
            if taken := self._take_kept(at_once):
                return taken
            if shard := self._claims.next(self._budget.fits):
                self._own.add(shard.part)
                self._kept.append(shard)
                if taken := self._take_kept(at_once):
                    return taken
            self._over = not self._claims.open or self._claims.is_stuck()
        self._next_try = time.monotonic() + HEARTBEAT_SECONDS
        return None

    def _take_kept(self, at_once: int) -> tuple[ShardRef, BudgetShare] | None:
        for shard in self._kept:
            others = (one for one in self._claims.open if one.part != shard.part and not self._budget.is_held(one))
            if share := self._budget.share(shard, [shard, *islice(others, at_once - 1)]):
                self._kept.remove(shard)
                return shard, share
        return None

    def end(self, shard: ShardRef, outcome: ShardOutcome) -> None:
        """Let nobody claim one again that is done; keep one whose share was too small.

        One that ended early for this machine's sake goes to others.
        """
        self._next_look = 0.0
        self._ended.append((shard, outcome))
        with suppress(OSError):
            self._tell()

    def _tell(self) -> None:
        while self._ended:
            shard, outcome = self._ended[0]
            # In this order: who dies between leaves one that others may claim, and in which they find nothing to do.
            self._budget.release(shard, outcome)
            if outcome.wanting is not None:
                self._kept.append(shard)
            elif not outcome.not_attempted:
                self._claims.done(shard)
            elif not outcome.stopped and not is_superseded(self._run.store, shard):
                request_stop(self._run.path, "a shard that ended early", here=True)
            self._ended.pop(0)

    def refresh(self) -> None:
        """Exchange news with the other machines, in some seconds; called again and again while shards run."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        with suppress(OSError):
            exchange_stop(self._run)
            self._tell()
            if self._hears:
                self._claims.refresh()
                claimed = [shard for shard in self._claims.claimed if shard.part not in self._own]
                fetch_progress(self._run, {shard.part: shard for shard in [*self._heard, *claimed]}.values())
                self._heard = claimed  # once more after the end of each, for its last word

    def is_unaffordable(self) -> bool:
        """Whether nobody has a share, and no call fits into what is left of the budget."""
        if not self._budget.is_bounded:
            return False
        with suppress(OSError):
            self._claims.refresh()
            self._budget.read()
            left = self._claims.claimable()
            return bool(left) and not any(map(self._budget.fits, left))
        return False

    @property
    def is_empty(self) -> bool:
        """Whether none will ever be to be had again."""
        return self._over
