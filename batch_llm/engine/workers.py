"""Worker pool of a run: the queue of its items, the workers that process them, and the end of their work.

    filling ──run()──> running ──drain()──> draining ──no item waits, none is in progress──> over
                          └─────────────────── an error or a cancellation of run() ───────────^

A worker is started when an item waits and no worker is idle; it stays until the pool is over. Items that are added
while the pool is draining are processed, too.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar

from batch_llm.items import AnyWorkItem
from batch_llm.observers.base import ProcessingEvent

from .hook_watch import HookSlot
from .hooks import Hooks
from .user_values import check_is_item
from .work_queue import WorkQueue

_CALLING_POOLS: ContextVar[frozenset[object]] = ContextVar("batch_llm_calling_pools", default=frozenset())
"""Worker pools whose workers called the current code; tasks and threads inherit the value."""

ITEMS_IN_A_ROW = 8
"""Number of items after which a worker yields to the loop, because a strategy that never waits would block it."""


class WorkerPool:
    """Queue of items, and up to `most` tasks that `process` them, one item at a time each.

    Args:
        most: Maximum number of workers.
        places: Number of slots of the queue.
        frees_when_taken: Whether a worker that takes an item frees its slot; else the caller of `queue.free` does.
        process: Function that processes an item, with its position in the order of adding and the worker's slot.
        hooks: Hooks that receive the events of workers.

    Attributes:
        queue: Items that no worker has taken yet.
        added: Number of items added so far.
        is_feeding: Whether the coroutine that adds items may continue.
        is_draining: Whether the pool is over as soon as no item waits and none is in progress.
        is_over: Whether no further item is processed.
    """

    def __init__(
        self,
        most: int,
        places: float,
        frees_when_taken: bool,
        process: Callable[[AnyWorkItem, int, HookSlot], Awaitable[None]],
        hooks: Hooks,
    ) -> None:
        self._most = most
        self._frees_when_taken = frees_when_taken and places < math.inf
        self._process = process
        self._hooks = hooks
        self._group = asyncio.TaskGroup()
        self._owner: asyncio.Task[object] | None = None
        self._feeder: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._workers = self._busy = self._taken = 0
        self._arriving = 0  # items that wait for a slot
        self.queue = WorkQueue[AnyWorkItem](places)
        self.added = 0
        self.is_feeding = True
        self.is_draining = self.is_over = False

    @property
    def runs_current_code(self) -> bool:
        """Whether the current code was called by one of the workers, directly or through tasks and threads."""
        return self in _CALLING_POOLS.get()

    @property
    def is_full(self) -> bool:
        """Whether the next item has to wait for a free slot; hooks never wait, as only workers free slots."""
        return self.queue.is_full and not self.runs_current_code

    def is_ending(self) -> bool:
        """Return whether the workers are being cancelled, because of the run or of a bug in one of the workers."""
        return self.is_over or (self._owner is not None and self._owner.cancelling() > 0)

    async def add(self, item: AnyWorkItem) -> bool:
        """Add an item, once a slot is free; return False if the pool was cancelled or failed before.

        Raises:
            ValueError: The item was changed during the wait, and is not valid any more.
        """
        self._arriving += 1
        try:
            if self.is_full:
                await self.queue.room()
                check_is_item(item)
            if self.is_over:
                return False
            self.put(item)
            return True
        finally:
            self._arriving -= 1
            self._end_if_done()

    def put(self, item: AnyWorkItem) -> None:
        """Add an item, even if no slot is free."""
        self.queue.put(item)
        self.added += 1
        self._spawn()

    async def run(self, feed: Coroutine[None, None, None] | None = None) -> None:
        """Process items until the pool is over; when this returns or raises, no task of the pool is left.

        Args:
            feed: Coroutine that adds items; the pool drains when it completes.
        """
        async with self._group:
            self._owner = asyncio.current_task()
            if feed is not None:
                self._feeder = self._group.create_task(feed, name="batch-llm source")
                # Not earlier: a cancelled source may yield one more item, which needs a result too.
                self._feeder.add_done_callback(lambda _: self.drain())
            self._spawn()
            self._end_if_done()
            try:
                await self._over.wait()
            finally:
                self._end()

    def stop_feeding(self) -> None:
        """Cancel the coroutine that adds items, if any."""
        self.is_feeding = False
        if self._feeder is not None:
            self._feeder.cancel()

    def drain(self) -> None:
        """Complete as soon as no item waits and none is in progress."""
        self.is_draining = True
        self._end_if_done()

    def _spawn(self) -> None:
        """Start a worker for every waiting item without an idle worker, up to the maximum."""
        # Counted before its creation: with an eager task factory, it runs immediately and may spawn others.
        while self._workers < self._most and self._owner and self._workers - self._busy < len(self.queue):
            self._workers += 1
            self._group.create_task(self._work(self._workers), name=f"batch-llm worker {self._workers}")

    def _end_if_done(self) -> None:
        if self.is_draining and not (self._busy or self._arriving or self.queue):
            self._end()

    def _end(self) -> None:
        """Stop all workers after their current item, including those whose strategy suppresses a cancellation."""
        self.is_over = True
        self._over.set()
        self.queue.close()

    async def _work(self, number: int) -> None:
        _CALLING_POOLS.set(_CALLING_POOLS.get() | {self})
        self._hooks.emit(ProcessingEvent.WORKER_STARTED, {"worker": number})
        done, slot, queue, items = 0, self._hooks.slot(), self.queue, self.queue.items
        try:
            while not self.is_over and (items or await queue.filled()):
                self._busy += 1
                item, position = items.popleft(), self._taken
                self._taken += 1
                if self._frees_when_taken:
                    queue.free()
                await self._process(item, position, slot)
                self._busy -= 1
                if self.is_draining and not self._busy:
                    self._end_if_done()
                done += 1
                if done % ITEMS_IN_A_ROW == 0:
                    await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            if self.is_ending():
                raise
            raise RuntimeError(f"worker {number} was cancelled unexpectedly") from error
        finally:
            self._hooks.emit(ProcessingEvent.WORKER_STOPPED, {"worker": number})
