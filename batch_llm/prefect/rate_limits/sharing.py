"""Processes and machines that work under one limit share it through the Prefect server.

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
from batch_llm.prefect.best_effort import impatient

from .membership import END_SECONDS, Membership

JOIN_SECONDS = 1.0
"""A run waits so long for its first share, and begins alone if there is none by then."""

LINGER_SECONDS = 10.0
"""A process stays a member so long after its last shard: a pool's process goes on with the next one at once."""

REQUEST_SECONDS = 4.0


@contextmanager
def shared(scope: str, governor: Governor, limits: Limits) -> Generator[None]:
    """Let `governor` have this process's part of the scope's limit, for as long as the block lasts.

    Several threads may enter it for the same scope and governor: together they are one member.

    Args:
        scope: Names the limit; everybody at the same Prefect server who names it shares it.
        governor: Paces the calls of this process.
        limits: What the job says of them; of what people set for the scope, the lower applies.
    """
    place = _enter(scope, governor, limits)
    place.membership.has_share.wait(JOIN_SECONDS)
    try:
        yield
    finally:
        _leave(place)


@contextmanager
def given_back(governor: Governor) -> Generator[None]:
    """At the end of the block, give back the governor's shares at once, but for those in use: no more shards will come.

    A run that follows in the same process would else wait for what nobody uses any more.
    """
    try:
        yield
    finally:
        with _lock:
            unused = [place for (_, of), place in _places.items() if of is governor and not place.users]
            for place in unused:
                place.is_over = True  # nobody enters it from here on
        _await_end(unused)


class _MembershipThread(Thread):
    """The daemon thread of a membership, from the first user until some time after the last."""

    def __init__(self, scope: str, governor: Governor) -> None:
        super().__init__(name=f"batch-llm limit {scope}", daemon=True)
        self.membership = Membership(scope, governor)
        self.users = 0
        self.left_at = 0.0
        self.is_over = False
        # A thread starts with no context, and so with other settings than those of whom it works for.
        settings = SettingsContext.get()
        self._settings = SettingsContext(profile=settings.profile, settings=settings.settings) if settings else None

    def run(self) -> None:
        with self._settings or nullcontext(), impatient(REQUEST_SECONDS):
            asyncio.run(self.membership.live(self._ends))

    def _ends(self) -> bool:
        with _lock:
            self.is_over = self.is_over or (not self.users and time.monotonic() - self.left_at > LINGER_SECONDS)
            return self.is_over


_places: dict[tuple[str, Governor], _MembershipThread] = {}
_lock = Lock()


def _enter(scope: str, governor: Governor, limits: Limits) -> _MembershipThread:
    with _lock:
        for key in [key for key, place in _places.items() if place.is_over or not place.is_alive()]:
            del _places[key]
        place = _places.get((scope, governor))
        if place is None:
            place = _places[scope, governor] = _MembershipThread(scope, governor)
            place.start()
            _see_to_the_end(os.getpid())
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
def _see_to_the_end(pid: int) -> Finalize:
    """Have shares given back when process `pid`, which is this one, ends; unlike `atexit`, also one of a pool."""
    return Finalize(None, _end_all, exitpriority=0)


def _end_all() -> None:
    places = [place for place in _places.values() if place.is_alive()]
    for place in places:
        place.is_over = True
    _await_end(places)


def _await_end(places: Sequence[_MembershipThread]) -> None:
    for place in places:
        place.membership.wake()
    end = time.monotonic() + END_SECONDS
    for place in places:
        place.join(max(0.0, end - time.monotonic()))
