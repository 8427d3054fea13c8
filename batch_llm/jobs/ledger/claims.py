"""Claims: which runner processes which shard of a run, when several processes or machines work on the run.

    <run>/carriers/<runner>.json       a runner: its process, and a heartbeat counter
    <run>/claims/<part>.000001.json    the first claim on a shard, with the name of its runner
    <run>/claims/<part>.done.json      the shard is finished

A runner claims a shard by creating the next claim file, which succeeds for exactly one of several runners. A claim is
superseded by a later claim. A later claim may be created when the runner of the last claim is gone: it has finished,
its process is dead, or its heartbeat counter has not changed for a minute. So a shard has one runner at a time. A
runner checks for a later claim, as for a later lease, before it makes further calls.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from batch_llm.jobs.run_types import ShardRef
from batch_llm.jobs.storage.store import Store

from . import heartbeat
from .heartbeat import Heartbeat, Owner, StalenessTimer, send_heartbeats

MOST_CLAIMS = 10
"""Claims per shard. A shard whose runners have died that often is given up, because it may be what kills them."""


class RunnerRegistry:
    """Registry of the processes that run shards of a run, each with a heartbeat file.

    Args:
        run: The run's folder in the ledger.
    """

    def __init__(self, run: Store) -> None:
        self._run = run
        self._watch = StalenessTimer()

    def join(self, runner: str, *, lost: Callable[[str], None]) -> AbstractContextManager[Heartbeat]:
        """Register this process as a runner while the context is open.

        Args:
            runner: Name of the runner.
            lost: Called from a thread, with the reason, when others treat this runner as dead.

        Raises:
            OSError: The ledger cannot be written.
        """
        us = Owner.of_this_process(runner)
        us.write(self._run, _of(runner))
        return send_heartbeats(self._run, _of(runner), us, lost=lost)

    def names(self) -> list[str]:
        """Return the names of all runners that have ever joined.

        Raises:
            OSError: The ledger cannot be read.
        """
        return [name.rpartition("/")[2].removesuffix(".json") for name in self._run.names("carriers/*.json")]

    def is_gone(self, runner: str, *, after: float | None = None) -> bool:
        """Whether a runner has finished or died; call it repeatedly, because it measures the time without a heartbeat.

        Args:
            runner: Name of the runner.
            after: Seconds without a heartbeat after which the runner is treated as dead; a minute by default.

        Raises:
            OSError: The ledger cannot be read.
        """
        seen = Owner.read(self._run, _of(runner))
        silence = self._watch.seconds_unchanged(runner, seen)
        if seen is None:
            return False
        return seen.is_gone or silence > (heartbeat.STALE_SECONDS if after is None else after)

    def is_dead(self, runner: str) -> bool:
        """Whether a runner has died without signing off; call it repeatedly, as `is_gone`.

        Raises:
            OSError: The ledger cannot be read.
        """
        seen = Owner.read(self._run, _of(runner))
        return seen is not None and not seen.ended and self.is_gone(runner)

    def is_running(self, runner: str) -> bool:
        """Whether a runner has joined and not signed off, and its process is not known to be dead.

        Raises:
            OSError: The ledger cannot be read.
        """
        seen = Owner.read(self._run, _of(runner))
        return seen is not None and not seen.is_gone


class Claims:
    """Claims of one runner on the shards of a run.

    Args:
        run: The run's folder in the ledger.
        shards: All shards of the run.
        runner: Name of the runner.

    Attributes:
        open: The shards that were not finished at the last refresh.

    Example:
        >>> claims = Claims(run, plan.shards, "machine-1")
        >>> while shard := claims.next():
        ...     process(shard)
        ...     claims.done(shard)
    """

    def __init__(self, run: Store, shards: Sequence[ShardRef], runner: str) -> None:
        self.open = list(shards)
        self._run, self._runner = run, runner
        self._runners = RunnerRegistry(run)
        self._numbers: dict[str, int] = {}

    def next(self, wanted: Callable[[ShardRef], bool] = lambda _: True) -> ShardRef | None:
        """Claim and return a shard; None if every wanted shard is finished or claimed by a live runner.

        Args:
            wanted: Filter of the shards.

        Raises:
            OSError: The ledger cannot be reached.
        """
        self.refresh()
        for shard in sorted(filter(wanted, self.open), key=lambda shard: shard.part in self._numbers):
            number = self._numbers.get(shard.part, 0)
            is_free = number == 0 or (number < MOST_CLAIMS and self._is_given_up(shard.part, number))
            if is_free and self._create(shard.part, number + 1):
                return replace(shard, claim=number + 1)
        return None

    def refresh(self) -> None:
        """Read which shards were claimed and finished meanwhile.

        Raises:
            OSError: The ledger cannot be read.
        """
        done = set[str]()
        for name in self._run.names("claims/*.json"):
            part, what = name.removeprefix("claims/").removesuffix(".json").rsplit(".", 1)
            if what == "done":
                done.add(part)
            elif what.isdigit():
                self._numbers[part] = max(int(what), self._numbers.get(part, 0))
        self.open = [shard for shard in self.open if shard.part not in done]

    @property
    def claimed(self) -> list[ShardRef]:
        """The open shards that had a claim at the last refresh."""
        return [shard for shard in self.open if shard.part in self._numbers]

    def claimable(self) -> list[ShardRef]:
        """Return the open shards that have a live runner, or may still be claimed.

        Raises:
            OSError: The ledger cannot be read.
        """
        return [shard for shard in self.open if not self._is_lost(shard.part)]

    def is_stuck(self) -> bool:
        """Whether unfinished shards remain, and none of these shards may be claimed again.

        Raises:
            OSError: The ledger cannot be read.
        """
        return bool(self.open) and not self.claimable()

    def done(self, shard: ShardRef) -> None:
        """Mark a shard as finished, so that it cannot be claimed again.

        Raises:
            OSError: The ledger cannot be written.
        """
        self._run.create(_done(shard.part), json.dumps({"carrier": self._runner}).encode())
        self.open = [other for other in self.open if other.part != shard.part]

    def _create(self, part: str, number: int) -> bool:
        return self._run.create(_claim(part, number), json.dumps({"carrier": self._runner}).encode())

    def _is_given_up(self, part: str, number: int) -> bool:
        # In this order: a runner marks a shard as finished before it signs off.
        return self._is_over(part, number) and self._run.read(_done(part)) is None

    def _is_lost(self, part: str) -> bool:
        return self._numbers.get(part, 0) >= MOST_CLAIMS and self._is_over(part, MOST_CLAIMS)

    def _is_over(self, part: str, number: int) -> bool:
        try:
            claim = json.loads(self._run.read(_claim(part, number)) or b"{}")
        except ValueError:
            return False  # the file is being written
        return "carrier" in claim and self._runners.is_gone(str(claim["carrier"]))


def await_runners(run: Store, *, but: str) -> None:
    """Wait until the runners of a run have finished or died, so that their last answers need not be paid for twice.

    Args:
        run: The ledger folder of a run whose main process is gone; its runners notice that within seconds.
        but: The runner of the main process, which is not waited for.

    Raises:
        OSError: The ledger cannot be read.
    """
    runners = RunnerRegistry(run)
    remaining = set(runners.names()) - {but}
    while remaining := {name for name in remaining if not runners.is_gone(name)}:
        time.sleep(heartbeat.HEARTBEAT_SECONDS / 5)


def is_superseded(run: Store, shard: ShardRef) -> bool:
    """Whether another runner has claimed a shard after this claim.

    Args:
        run: The run's folder in the ledger.
        shard: The shard, with the number of its claim.

    Raises:
        OSError: The ledger cannot be read.
    """
    return shard.claim > 0 and run.read(_claim(shard.part, shard.claim + 1)) is not None


def _claim(part: str, number: int) -> str:
    return f"claims/{part}.{number:06d}.json"


def _done(part: str) -> str:
    return f"claims/{part}.done.json"


def _of(runner: str) -> str:
    return f"carriers/{runner}.json"
