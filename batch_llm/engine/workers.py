"""Worker pool of a run.

    no workers ──start()──> one worker per waiting item, up to `most` ──stop()──> each stops after its current item

A worker is spawned when an item waits and no worker is idle; it stays until the end of the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Generic, TypeVar

from batch_llm.observers.base import ProcessingEvent

from .hook_watch import HookSlot
from .hooks import Hooks
from .work_queue import WorkQueue

T = TypeVar("T")

_CALLING_POOLS: ContextVar[frozenset[object]] = ContextVar("batch_llm_calling_pools", default=frozenset())
"""Worker pools whose workers called the current code; tasks and threads inherit the value."""

ITEMS_IN_A_ROW = 8
"""Number of items after which a worker yields to the loop, because a strategy that never waits would block it."""


class WorkerPool(Generic[T]):
    """Up to `most` tasks of `group` that take items from `queue` and `process` them, one at a time each.

    Args:
        group: Task group that owns the tasks.
        most: Maximum number of workers.
        queue: Queue of waiting items.
        process: Function that processes one item.
        done: Function called after each item.
        is_ending: Function that returns whether the run cancels its workers.
        hooks: Hooks that receive the events of workers.

    Attributes:
        busy: Number of workers that are processing an item.
    """

    def __init__(
        self,
        group: asyncio.TaskGroup,
        most: int,
        queue: WorkQueue[T],
        process: Callable[[T, HookSlot], Awaitable[None]],
        done: Callable[[], None],
        is_ending: Callable[[], bool],
        hooks: Hooks,
    ) -> None:
        self._group = group
        self._most = most
        self._queue = queue
        self._process = process
        self._done = done
        self._is_ending = is_ending
        self._hooks = hooks
        self._workers = 0
        self._spawning = False
        self._stopped = False
        self.busy = 0

    @property
    def runs_current_code(self) -> bool:
        """Whether the current code was called by one of the workers, directly or through tasks and threads."""
        return self in _CALLING_POOLS.get()

    def start(self) -> None:
        """Start to spawn workers for waiting items."""
        self._spawning = True
        self.spawn()

    def spawn(self) -> None:
        """Spawn a worker for every waiting item without an idle worker, up to the maximum."""
        # Counted before its creation: with an eager task factory, it runs immediately and may spawn others.
        while self._spawning and self._workers - self.busy < len(self._queue) and self._workers < self._most:
            self._workers += 1
            self._group.create_task(self._work(self._workers), name=f"batch-llm worker {self._workers}")

    def stop(self) -> None:
        """Stop all workers after their current item, including those whose strategy suppresses a cancellation."""
        self._stopped = True
        self._queue.close()

    async def _work(self, number: int) -> None:
        _CALLING_POOLS.set(_CALLING_POOLS.get() | {self})
        self._hooks.emit(ProcessingEvent.WORKER_STARTED, {"worker": number})
        done, slot = 0, self._hooks.slot()
        try:
            while not self._stopped and (self._queue or await self._queue.filled()):
                self.busy += 1
                await self._process(self._queue.take(), slot)
                self.busy -= 1
                self._done()
                done += 1
                if done % ITEMS_IN_A_ROW == 0:
                    await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            if self._is_ending():
                raise
            raise RuntimeError(f"worker {number} was cancelled unexpectedly") from error
        finally:
            self._hooks.emit(ProcessingEvent.WORKER_STOPPED, {"worker": number})
