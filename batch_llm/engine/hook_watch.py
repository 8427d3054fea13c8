"""Supervision of the calls of hooks: their errors, their timeout, and warnings about hooks that take long.

    called ──60 s──> warning ──after twice that time──> warning, and so on ──returned

No time is measured when a hook is called: a worker only stores the hook in its slot. One timer of the run checks the
slots every second, so hooks that return immediately cost nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

from .timeouts import Deadlines
from .user_errors import log_unless_run_ends, undo_own_cancellation

logger = logging.getLogger(__name__)

FAILED: Any = object()
"""Marker that is returned instead of a hook's value if the hook failed."""

WARN_SECONDS = 60.0
LOOK_SECONDS = 1.0


class HookSlot:
    """Hook that one worker is calling; the worker sets the attributes directly, because it does so for every item.

    Attributes:
        task: The task of the worker.
        hook: The name of the hook in the log; empty while the worker calls no hook.
        item_id: The item for which the hook is called.
        since: When the watch first saw this call; None until it has, so the worker sets it to None at each call.
        due: When the next warning about the hook is due.
    """

    __slots__ = ("due", "hook", "item_id", "since", "task")

    def __init__(self, task: asyncio.Task[object]) -> None:
        self.task = task
        self.hook = self.item_id = ""
        self.since: float | None = None
        self.due = 0.0


class HookWatch:
    """Slots of the workers of one run, the timer that checks them, and the timeout of hooks.

    Args:
        timeout: Seconds for one call of a hook; None for no limit.
        is_ending: Function that returns whether the run cancels its workers.

    Attributes:
        timeout: As the argument.
    """

    def __init__(self, timeout: float | None, is_ending: Callable[[], bool]) -> None:
        self.timeout = timeout
        self._deadlines = Deadlines(timeout or math.inf)
        self._is_ending = is_ending
        self._loop = asyncio.get_running_loop()
        self._slots: list[HookSlot] = []
        self._timer: asyncio.TimerHandle | None = None

    def slot(self) -> HookSlot:
        """Return a slot for the current task, which is a worker."""
        task = asyncio.current_task()
        assert task is not None
        slot = HookSlot(task)
        self._slots.append(slot)
        return slot

    def open(self) -> None:
        """Start the timer."""
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)

    def close(self) -> None:
        """Cancel all timers."""
        self._deadlines.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def in_time(self, awaitable: Awaitable[Any]) -> Any:
        """Return the value of a hook; raise _TookTooLong after `timeout`."""
        deadline = self._deadlines.one()
        try:
            with deadline:
                return await awaitable
        except TimeoutError as error:
            if deadline.expired:
                raise _TookTooLong from error
            raise

    async def undo_own_cancellation(self) -> None:
        """Undo a cancellation that a hook requested of its own task."""
        await undo_own_cancellation(None, self._is_ending)

    async def log_unless_run_ends(self, slot: HookSlot, error: BaseException) -> Any:
        """Log the error of a hook and return `FAILED`; raise errors that end the run."""
        what = "took longer than hook_timeout" if isinstance(error, _TookTooLong) else "raised"
        await log_unless_run_ends(
            error, self._is_ending, "%s on item %s %s; the item continues", slot.hook, slot.item_id, what
        )
        return FAILED

    def _look(self) -> None:
        now = self._loop.time()
        for slot in self._slots:
            if not slot.hook:
                continue
            if slot.since is None:
                slot.since, slot.due = now, now + WARN_SECONDS
            elif slot.due <= now:
                seconds = now - slot.since
                text = "%s has been running on item %s for %.0f s; set ProcessorConfig.hook_timeout to limit it"
                logger.warning(text, slot.hook, slot.item_id, seconds)
                slot.due = slot.since + 2 * seconds
        self.open()


class _TookTooLong(TimeoutError):
    """A hook took longer than `hook_timeout`."""
