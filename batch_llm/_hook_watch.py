"""Names hooks that take long, and ends them where there is a limit.

    called ──60 s──> named in a warning ──as long again──> named again, and so on ──returned
       └──hook_timeout──> cancelled: TimeoutError

One timer serves all the hooks of a run: it rings when the first of them is due.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from ._deadlines import Deadline, Deadlines

logger = logging.getLogger(__name__)

WARN_SECONDS = 60.0


@dataclass(eq=False, slots=True)
class _Call:
    name: str
    item_id: str
    started: float
    due: float


class HookWatch:
    """The hooks of one run that are under way.

    Args:
        timeout: Seconds that one call may take; None for as long as it likes.
    """

    def __init__(self, timeout: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: dict[_Call, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._deadlines = None if timeout is None else Deadlines(timeout)

    def begin(self, name: str, item_id: str) -> _Call:
        """Note that a hook is called, and return what `end` takes."""
        now = self._loop.time()
        call = _Call(name, item_id, now, now + WARN_SECONDS)
        self._calls[call] = None
        if self._timer is None:
            self._timer = self._loop.call_at(call.due, self._ring)
        return call

    def end(self, call: _Call) -> None:
        """Note that a hook has come back."""
        del self._calls[call]

    def deadline(self) -> Deadline | None:
        """Return a `with` block for one call of a hook; None where nothing bounds it."""
        return None if self._deadlines is None else self._deadlines.one()

    def close(self) -> None:
        """Let no timer be left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._deadlines is not None:
            self._deadlines.close()

    def _ring(self) -> None:
        now = self._loop.time()
        for call in self._calls:
            if call.due <= now:
                seconds = now - call.started
                logger.warning(
                    "%s has been at item %s for %.0f s: the item waits for it; ProcessorConfig.hook_timeout bounds it",
                    call.name,
                    call.item_id,
                    seconds,
                )
                call.due = call.started + 2 * seconds
        due = min((call.due for call in self._calls), default=None)
        self._timer = None if due is None else self._loop.call_at(due, self._ring)
