"""The workers of a run.

    nobody ──start()──> hiring: as many as there are items waiting, up to `most` ──dismiss()──> going home, item by item

A worker is hired when an item has nobody to take it, and stays until the end.
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

_INSIDE: ContextVar[frozenset[object]] = ContextVar("batch_llm_inside", default=frozenset())
"""The crews by whose workers the current code was called: tasks and threads inherit it."""

ITEMS_IN_A_ROW = 8
"""Items after which a worker gives way: strategies that never wait must not keep the loop to themselves."""


class WorkerPool(Generic[T]):
    """Up to `most` tasks of `group` that take what waits in `backlog` and `process` it, one at a time each.

    Args:
        group: Owns the tasks.
        most: Workers at once.
        backlog: What waits.
        process: Does the work on one item.
        done: Called after each.
        is_ending: Whether the run takes its workers down.
        hooks: Told of workers that begin and end.

    Attributes:
        busy: Workers that have an item in their hands.
    """

    def __init__(
        self,
        group: asyncio.TaskGroup,
        most: int,
        backlog: WorkQueue[T],
        process: Callable[[T, HookSlot], Awaitable[None]],
        done: Callable[[], None],
        is_ending: Callable[[], bool],
        hooks: Hooks,
    ) -> None:
        self._group = group
        self._most = most
        self._backlog = backlog
        self._process = process
        self._done = done
        self._is_ending = is_ending
        self._hooks = hooks
        self._workers = 0
        self._hiring = False
        self._dismissed = False
        self.busy = 0

    @property
    def is_around(self) -> bool:
        """Whether the current code was called by one of the workers, through whatever tasks and threads."""
        return self in _INSIDE.get()

    def start(self) -> None:
        self._hiring = True
        self.spawn()

    def spawn(self) -> None:
        """Have a worker for every item that waits, as far as there may be one more."""
        # Counted before it is made: with an eager task factory it works right away, and may hire others.
        while self._hiring and self._workers - self.busy < len(self._backlog) and self._workers < self._most:
            self._workers += 1
            self._group.create_task(self._work(self._workers), name=f"batch-llm worker {self._workers}")

    def stop(self) -> None:
        """Let nobody take another item; also one who waits, or whose strategy swallows a cancellation."""
        self._dismissed = True
        self._backlog.close()

    async def _work(self, number: int) -> None:
        _INSIDE.set(_INSIDE.get() | {self})
        self._hooks.emit(ProcessingEvent.WORKER_STARTED, {"worker": number})
        done, slot = 0, self._hooks.slot()
        try:
            while not self._dismissed and (self._backlog or await self._backlog.filled()):
                self.busy += 1
                await self._process(self._backlog.take(), slot)
                self.busy -= 1
                self._done()
                done += 1
                if done % ITEMS_IN_A_ROW == 0:
                    await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            if self._is_ending():
                raise
            raise RuntimeError(f"a cancellation that nobody asked for reached worker {number}") from error
        finally:
            self._hooks.emit(ProcessingEvent.WORKER_STOPPED, {"worker": number})
