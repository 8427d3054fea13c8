"""The items that wait for a worker.

open ──close()──> closed: what is in it is still handed out, then everybody who waits is told that there is no more
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class WorkQueue(Generic[T]):
    """A queue that can be closed, and whose places are given back by `free`, not by taking an item.

    There is no marker at its end, so nothing can come to stand behind one.
    """

    def __init__(self, places: float = math.inf) -> None:
        self._items: deque[T] = deque()
        self._places = places
        self._takers: deque[asyncio.Future[None]] = deque()
        self._putters: deque[asyncio.Future[None]] = deque()
        self.closed = False

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    @property
    def is_full(self) -> bool:
        return self._places <= 0

    def put(self, item: T) -> None:
        """Add an item and take a place, even where there is none left."""
        self._items.append(item)
        self._places -= 1
        if self._takers:
            _wake_one(self._takers)

    async def room(self) -> None:
        """Wait for a place, or for the end."""
        while self.is_full and not self.closed:
            await _wait(self._putters, lambda: not self.is_full)

    def free(self) -> None:
        """Give a place back."""
        self._places += 1
        if self._putters:
            _wake_one(self._putters)

    async def filled(self) -> bool:
        """Wait for an item to `take`; False once the backlog is closed and empty."""
        while not self._items and not self.closed:
            await _wait(self._takers, lambda: bool(self._items))
        return bool(self._items)

    def take(self) -> T:
        """Return the next item of those that are there."""
        return self._items.popleft()

    def close(self) -> None:
        """Let nobody wait any more."""
        self.closed = True
        for waiters in (self._takers, self._putters):
            while waiters:
                _wake_one(waiters)


async def _wait(waiters: deque[asyncio.Future[None]], is_worth_it: Callable[[], bool]) -> None:
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiters.append(turn)
    try:
        await turn
    except asyncio.CancelledError:
        if turn in waiters:
            waiters.remove(turn)
        elif is_worth_it():  # woken and cancelled at once: the wake-up belongs to the next one
            _wake_one(waiters)
        raise


def _wake_one(waiters: deque[asyncio.Future[None]]) -> None:
    while waiters:
        turn = waiters.popleft()
        if not turn.done():
            turn.set_result(None)
            return
