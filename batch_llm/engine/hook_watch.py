"""Names hooks that take long in the log.

    called ──60 s──> named in a warning ──as long again──> named again, and so on ──returned

One timer serves all hooks of a run: it rings when the first hook is due. Records of calls are used again and again,
because most hooks of most items return at once.
"""

from __future__ import annotations

import asyncio
import logging

logger = logging.getLogger(__name__)

WARN_SECONDS = 60.0


class HookCall:
    """One call of a hook.

    Attributes:
        name: The name of the hook in the log.
        item_id: The item for which the hook is called.
        started: When the call began, by the clock of the event loop.
        due: When the call is to be named in the log.
        task: The task that calls the hook; None once the hook has returned.
    """

    __slots__ = ("due", "item_id", "name", "started", "task")

    def __init__(self) -> None:
        self.name = self.item_id = ""
        self.started = self.due = 0.0
        self.task: asyncio.Task[object] | None = None


class HookWatch:
    """The hooks of one run that are being called."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = self._loop.time
        self._calls: list[HookCall] = []  # as many as there were at once
        self._idle: list[HookCall] = []
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, name: str, item_id: str) -> HookCall:
        """Note that the current task calls a hook, and return what `end` takes."""
        if self._idle:
            call = self._idle.pop()
        else:
            call = HookCall()
            self._calls.append(call)
        call.name, call.item_id = name, item_id
        call.started = now = self._clock()
        call.due = now + WARN_SECONDS
        call.task = asyncio.current_task()
        if self._timer is None:
            self._timer = self._loop.call_at(call.due, self._ring)
        return call

    def end(self, call: HookCall) -> bool:
        """Note that a hook has returned or raised; return whether its task was asked to end. Ending twice is harmless."""
        task, call.task = call.task, None
        if task is None:
            return False
        self._idle.append(call)
        return task.cancelling() > 0

    def close(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        now = self._clock()
        dues: list[float] = []
        for call in self._calls:
            if call.task is None:
                continue
            if call.due <= now:
                text = (
                    "%s has been at item %s for %.0f s: the item waits for it; ProcessorConfig.hook_timeout bounds it"
                )
                logger.warning(text, call.name, call.item_id, now - call.started)
                call.due = call.started + 2 * (now - call.started)
            dues.append(call.due)
        self._timer = self._loop.call_at(min(dues), self._ring) if dues else None
