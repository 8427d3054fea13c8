"""Which carrier has which shard of a run, where several processes and machines carry it.

    <run>/carriers/<carrier>.json      a carrier: who it is, and a count that rises while it lives
    <run>/claims/<part>.000001.json    the first claim on a shard: names its carrier
    <run>/claims/<part>.done.json      the shard needs nothing more

A shard is had by creating the next claim on it, which succeeds for one of all who try. A claim is over when there is a
later one, and another one may be made when its carrier is gone: because it has ended, because its process is dead, or
because its count has stood still for a minute. So a shard has one carrier at a time, who looks for a later claim as for
a later lease before it calls any further.
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
"""A shard whose carriers have gone so often is left, for it may be what brings them down."""


class Runners:
    """The carriers of a run as they show themselves.

    Args:
        run: What the ledger has of the run.
    """

    def __init__(self, run: Store) -> None:
        self._run = run
        self._watch = StalenessTimer()

    def join(self, carrier: str, *, lost: Callable[[str], None]) -> AbstractContextManager[Heartbeat]:
        """Be one of them while this context is open.

        Raises:
            OSError: The ledger cannot be written.
        """
        us = Owner.of_this_process(carrier)
        us.write(self._run, _of(carrier))
        return send_heartbeats(self._run, _of(carrier), us, lost=lost)

    def names(self) -> list[str]:
        """Return all that have ever joined.

        Raises:
            OSError: The ledger cannot be read.
        """
        return [name.rpartition("/")[2].removesuffix(".json") for name in self._run.names("carriers/*.json")]

    def is_gone(self, carrier: str, *, after: float | None = None) -> bool:
        """Whether one that has joined works no more; to be asked again and again.

        Args:
            carrier: Which one.
            after: The seconds of silence that count as an end, instead of a minute.

        Raises:
            OSError: The ledger cannot be read.
        """
        seen = Owner.read(self._run, _of(carrier))
        silence = self._watch.seconds_unchanged(carrier, seen)
        if seen is None:
            return False
        return seen.is_gone or silence > (heartbeat.STALE_SECONDS if after is None else after)

    def is_dead(self, carrier: str) -> bool:
        """Whether one is gone without having said so; to be asked again and again.

        Raises:
            OSError: The ledger cannot be read.
        """
        seen = Owner.read(self._run, _of(carrier))
        return seen is not None and not seen.ended and self.is_gone(carrier)

    def is_running(self, carrier: str) -> bool:
        """Whether one has joined and has not said that it ended, as one look can tell.

        Raises:
            OSError: The ledger cannot be read.
        """
        seen = Owner.read(self._run, _of(carrier))
        return seen is not None and not seen.is_gone


class Claims:
    """The shards of a run, for one of its carriers.

    Args:
        run: What the ledger has of the run.
        shards: All of its shards.
        carrier: Who claims.

    Attributes:
        open: The shards that were not done at the last look.
    """

    def __init__(self, run: Store, shards: Sequence[ShardRef], carrier: str) -> None:
        self.open = list(shards)
        self._run, self._carrier = run, carrier
        self._carriers = Runners(run)
        self._numbers: dict[str, int] = {}

    def next(self, wanted: Callable[[ShardRef], bool] = lambda _: True) -> ShardRef | None:
        """Claim a shard that is wanted; None when all are done, or in good hands.

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
        """See what was claimed and done meanwhile.

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
        """The shards that somebody had at the last look."""
        return [shard for shard in self.open if shard.part in self._numbers]

    def claimable(self) -> list[ShardRef]:
        """Return the open shards that somebody has, or may claim.

        Raises:
            OSError: The ledger cannot be read.
        """
        return [shard for shard in self.open if not self._is_lost(shard.part)]

    def is_stuck(self) -> bool:
        """Whether shards are left that nobody may claim any more.

        Raises:
            OSError: The ledger cannot be read.
        """
        return bool(self.open) and not self.claimable()

    def done(self, shard: ShardRef) -> None:
        """Let nobody claim a shard any more.

        Raises:
            OSError: The ledger cannot be written.
        """
        self._run.create(_done(shard.part), json.dumps({"carrier": self._carrier}).encode())
        self.open = [other for other in self.open if other.part != shard.part]

    def _create(self, part: str, number: int) -> bool:
        return self._run.create(_claim(part, number), json.dumps({"carrier": self._carrier}).encode())

    def _is_given_up(self, part: str, number: int) -> bool:
        # Asked in this order: a carrier that has ended had written before what it was done with.
        return self._is_over(part, number) and self._run.read(_done(part)) is None

    def _is_lost(self, part: str) -> bool:
        return self._numbers.get(part, 0) >= MOST_CLAIMS and self._is_over(part, MOST_CLAIMS)

    def _is_over(self, part: str, number: int) -> bool:
        try:
            claim = json.loads(self._run.read(_claim(part, number)) or b"{}")
        except ValueError:
            return False  # just being written
        return "carrier" in claim and self._carriers.is_gone(str(claim["carrier"]))


def await_runners(run: Store, *, but: str) -> None:
    """Wait until the carriers of a run have ended or are taken for dead: what they answer now need not be paid twice.

    Args:
        run: What the ledger has of a run whose own process is gone; they notice that within seconds.
        but: That process.

    Raises:
        OSError: The ledger cannot be read.
    """
    carriers = Runners(run)
    left = set(carriers.names()) - {but}
    while left := {name for name in left if not carriers.is_gone(name)}:
        time.sleep(heartbeat.HEARTBEAT_SECONDS / 5)


def is_superseded(run: Store, shard: ShardRef) -> bool:
    """Whether another carrier has claimed a shard since.

    Raises:
        OSError: The ledger cannot be read.
    """
    return shard.claim > 0 and run.read(_claim(shard.part, shard.claim + 1)) is not None


def _claim(part: str, number: int) -> str:
    return f"claims/{part}.{number:06d}.json"


def _done(part: str) -> str:
    return f"claims/{part}.done.json"


def _of(carrier: str) -> str:
    return f"carriers/{carrier}.json"
