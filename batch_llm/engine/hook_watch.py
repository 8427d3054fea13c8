"""Warnings in the log about hooks that take long.

    called ──60 s──> warning ──after twice that time──> warning, and so on ──returned

No time is measured when a hook is called: a worker only stores the hook in its slot. One timer of the run checks the
slots every second, so hooks that return immediately cost nothing.
"""

from __future__ import annotations

import asyncio
import logging

logger = logging.getLogger(__name__)

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
    """Slots of the workers of one run, and the timer that checks them."""

    def __init__(self) -> None:
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
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

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
