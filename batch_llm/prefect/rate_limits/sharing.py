"""One rate limit, shared by processes and machines through the Prefect server.

with shared("account", governor, Limits(requests_per_minute=3000)):
    ...  # calls under the governor
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from multiprocessing.util import Finalize
from threading import Lock, Thread

from prefect.context import SettingsContext

from batch_llm.config import Limits
from batch_llm.pacing.governor import Governor
from batch_llm.prefect.best_effort import short_timeouts

from .membership import END_SECONDS, Membership

JOIN_SECONDS = 1.0
"""Seconds from joining for which shards wait for the first share; after that, they start without one."""

LINGER_SECONDS = 10.0
"""Seconds that a process stays in the scope after its last shard: a pool's process often gets another one at once."""

REQUEST_SECONDS = 4.0


@contextmanager
def shared(scope: str, governor: Governor, limits: Limits) -> Generator[None]:
    """Give `governor` this process's share of the scope's limit inside the block.

    Several threads may enter the block for the same scope and governor: together they have one share.

    Args:
        scope: Name of the scope; all processes with this scope at the same Prefect server share the limit.
        governor: Governor of the calls of this process.
        limits: Limits of the job; where the scope has a limit as well, the lower one applies.
    """
    place = _enter(scope, governor, limits)
    place.membership.has_share.wait(max(0.0, place.joined_at + JOIN_SECONDS - time.monotonic()))
    try:
        yield
    finally:
        _leave(place)


@contextmanager
def shares_released_at_end(governor: Governor) -> Generator[None]:
    """Release the governor's unused shares at the end of the block, because no more shards follow.

    Otherwise the next run in the same process would wait for shares that are not used.
    """
    try:
        yield
    finally:
        with _lock:
            unused = [place for (_, of), place in _threads.items() if of is governor and not place.users]
            for place in unused:
                place.is_over = True  # `_enter` does not use it any more
        _await_end(unused)


class _MembershipThread(Thread):
    """Daemon thread of a membership, from its first user until some time after its last."""

    def __init__(self, scope: str, governor: Governor) -> None:
        super().__init__(name=f"batch-llm limit {scope}", daemon=True)
        self.membership = Membership(scope, governor)
        self.users = 0
        self.joined_at = time.monotonic()
        self.left_at = 0.0
        self.is_over = False
        # A new thread has no context, and so not the settings of the thread that started it.
        settings = SettingsContext.get()
        self._settings = SettingsContext(profile=settings.profile, settings=settings.settings) if settings else None

    def run(self) -> None:
        with self._settings or nullcontext(), short_timeouts(REQUEST_SECONDS):
            asyncio.run(self.membership.take_part(self._ends))

    def _ends(self) -> bool:
        with _lock:
            self.is_over = self.is_over or (not self.users and time.monotonic() - self.left_at > LINGER_SECONDS)
            return self.is_over


_threads: dict[tuple[str, Governor], _MembershipThread] = {}
_lock = Lock()


def _enter(scope: str, governor: Governor, limits: Limits) -> _MembershipThread:
    with _lock:
        for key in [key for key, place in _threads.items() if place.is_over or not place.is_alive()]:
            del _threads[key]
        place = _threads.get((scope, governor))
        if place is None:
            place = _threads[scope, governor] = _MembershipThread(scope, governor)
            place.start()
            _release_at_exit(os.getpid())
        place.users += 1
        place.membership.is_needed = True
    place.membership.set_limits(limits)
    return place


def _leave(place: _MembershipThread) -> None:
    with _lock:
        place.users -= 1
        place.left_at = time.monotonic()
        place.membership.is_needed = place.users > 0


@cache
def _release_at_exit(pid: int) -> Finalize:
    """Release shares when this process, `pid`, exits; unlike `atexit`, it also works in processes of a pool."""
    return Finalize(None, _end_all, exitpriority=0)


def _end_all() -> None:
    places = [place for place in _threads.values() if place.is_alive()]
    for place in places:
        place.is_over = True
    _await_end(places)


def _await_end(places: Sequence[_MembershipThread]) -> None:
    for place in places:
        place.membership.wake()
    end = time.monotonic() + END_SECONDS
    for place in places:
        place.join(max(0.0, end - time.monotonic()))
