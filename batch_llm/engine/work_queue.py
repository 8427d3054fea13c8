"""Queue of the items that wait for a worker.

open ──close()──> closed: remaining items can still be taken, then all waits end
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class WorkQueue(Generic[T]):
    """Queue that can be closed, and whose slots are freed by `free`, not by taking an item.

    The queue has no end marker, so no item can be added behind one.

    Attributes:
        items: Items that nobody has taken yet.
        closed: Whether the queue is closed.
    """

    def __init__(self, places: float = math.inf) -> None:
        self.items: deque[T] = deque()
        self._places = places
        self._takers: deque[asyncio.Future[None]] = deque()
        self._putters: deque[asyncio.Future[None]] = deque()
        self.closed = False

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    @property
    def is_full(self) -> bool:
        """Whether no slot is free."""
        return self._places <= 0

    def put(self, item: T) -> None:
        """Add an item and occupy a slot, even if none is free."""
        self.items.append(item)
        self._places -= 1
        if self._takers:
            _wake_one(self._takers)

    async def room(self) -> None:
        """Wait until a slot is free or the queue is closed."""
        while self.is_full and not self.closed:
            await _wait(self._putters, lambda: not self.is_full)

    def free(self) -> None:
        """Free a slot."""
        self._places += 1
        if self._putters:
            _wake_one(self._putters)

    async def filled(self) -> bool:
        """Wait until there is an item to `take`; return False once the queue is closed and empty."""
        while not self.items and not self.closed:
            await _wait(self._takers, lambda: bool(self.items))
        return bool(self.items)

    def take(self) -> T:
        """Remove and return the next item."""
        return self.items.popleft()

    def close(self) -> None:
        """Close the queue and end all waits."""
        self.closed = True
        for waiters in (self._takers, self._putters):
            while waiters:
                _wake_one(waiters)


async def _wait(waiters: deque[asyncio.Future[None]], is_worth_it: Callable[[], bool]) -> None:
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiters.append(waiter)
    try:
        await waiter
    except asyncio.CancelledError:
        if waiter in waiters:
            waiters.remove(waiter)
        elif is_worth_it():  # woken and cancelled at once: the wake-up belongs to the next one
            _wake_one(waiters)
        raise


def _wake_one(waiters: deque[asyncio.Future[None]]) -> None:
    while waiters:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)
            return
