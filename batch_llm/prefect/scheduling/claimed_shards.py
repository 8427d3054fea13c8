"""The remaining shards of a run, which runners on several machines claim one by one."""

from __future__ import annotations

import time
from contextlib import suppress
from itertools import islice

from batch_llm.jobs import BudgetShare, JournaledAllocator, Plan, ShardOutcome, ShardRef, request_stop
from batch_llm.jobs.ledger.claims import Claims, is_superseded
from batch_llm.jobs.ledger.heartbeat import HEARTBEAT_SECONDS
from batch_llm.jobs.ledger.remote_run import exchange_stop, fetch_progress
from batch_llm.jobs.ledger.run_folder import RunFolder

LOOK_SECONDS = 3.0


class ClaimedShards:
    """Remaining shards of a run, claimed by several runners.

    Args:
        run: The run's folder.
        planned: The plan.
        runner: Id of the runner that claims.
        budget: Budget that the runners share.
        shows_others: Whether this process fetches the progress of the other runners.
    """

    def __init__(
        self, run: RunFolder, planned: Plan, runner: str, budget: JournaledAllocator, *, shows_others: bool
    ) -> None:
        self._run = run
        self._claims = Claims(self._run.store, planned.shards, runner)
        self._budget, self._shows_others = budget, shows_others
        self._waiting_for_share: list[ShardRef] = []  # claimed, without a budget share yet
        self._ended: list[tuple[ShardRef, ShardOutcome, bool]] = []  # not published yet
        self._claimed_here: set[str] = set()
        self._last_claimed: list[ShardRef] = []
        self._over = not planned.shards
        self._next_try = self._next_look = 0.0

    def take(self, at_once: int, *, alone: bool = False) -> tuple[ShardRef, BudgetShare] | None:
        """Claim a shard with a share of the remaining budget; return None if none is available now.

        While the ledger is unreachable, None is returned; the heartbeat detects an outage that lasts too long.

        Args:
            at_once: Number of shards that run at the same time and divide the remaining budget.
            alone: Whether the shard is a canary, which gets half of the budget.
        """
        if self._over or time.monotonic() < self._next_try:
            return None
        with suppress(OSError):
            self._publish_ended()
            self._budget.read()
            if taken := self._take_waiting(at_once, alone=alone):
                return taken
            if shard := self._claims.next(self._budget.fits):
                self._claimed_here.add(shard.part)
                self._waiting_for_share.append(shard)
                if taken := self._take_waiting(at_once, alone=alone):
                    return taken
            self._over = not self._claims.open or self._claims.is_stuck()
        self._next_try = time.monotonic() + HEARTBEAT_SECONDS
        return None

    def _take_waiting(self, at_once: int, *, alone: bool) -> tuple[ShardRef, BudgetShare] | None:
        for shard in self._waiting_for_share:
            if share := self._share(shard, at_once, alone=alone):
                self._waiting_for_share.remove(shard)
                return shard, share
        return None

    def _share(self, shard: ShardRef, at_once: int, *, alone: bool = False) -> BudgetShare | None:
        others = (one for one in self._claims.open if one.part != shard.part and not self._budget.is_held(one))
        return self._budget.share(shard, [shard, shard] if alone else [shard, *islice(others, at_once - 1)])

    def share_again(self, shard: ShardRef, at_once: int) -> BudgetShare | None:
        """Return a share of the remaining budget for the next attempt of a shard; None if `take` must wait for it."""
        with suppress(OSError):
            self._publish_ended()
            if share := self._share(shard, at_once):
                return share
        self._waiting_for_share.append(shard)
        return None

    def end(self, shard: ShardRef, outcome: ShardOutcome, *, retries: bool) -> None:
        """Mark a shard as done, or keep it if its budget share was too small or if it will be retried.

        A shard that stopped early because of this machine becomes available to other runners.
        """
        self._next_look = 0.0
        self._ended.append((shard, outcome, retries))
        with suppress(OSError):
            self._publish_ended()

    def _publish_ended(self) -> None:
        while self._ended:
            shard, outcome, retries = self._ended[0]
            # In this order: after a crash in between, others may claim the shard and find nothing to do in it.
            self._budget.release(shard, outcome)
            if outcome.wanting is not None:
                self._waiting_for_share.append(shard)
            elif retries:
                pass  # the scheduler has it
            elif not outcome.not_attempted:
                self._claims.done(shard)
            elif not outcome.stopped and not is_superseded(self._run.store, shard):
                request_stop(self._run.path, "a shard that ended early", here=True)
            self._ended.pop(0)

    def refresh(self) -> None:
        """Exchange stops, outcomes and progress with other machines, at most every `LOOK_SECONDS`."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        with suppress(OSError):
            exchange_stop(self._run)
            self._publish_ended()
            if self._shows_others:
                self._claims.refresh()
                claimed = [shard for shard in self._claims.claimed if shard.part not in self._claimed_here]
                fetch_progress(self._run, {shard.part: shard for shard in [*self._last_claimed, *claimed]}.values())
                self._last_claimed = claimed  # fetched once more after its end, for the final progress

    def is_unaffordable(self) -> bool:
        """Return whether no runner has a share and the rest of the budget is too small for a call."""
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
        """Whether no shard will become available again."""
        return self._over
