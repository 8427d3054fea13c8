"""Names hooks that take long, and ends them where there is a limit.

    called ──60 s──> named in a warning ──as long again──> named again, and so on ──returned
       └──hook_timeout──> cancelled: TimeoutError

One timer serves all the hooks of a run: it rings when the first of them is due.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import count

from .timeouts import Deadlines

logger = logging.getLogger(__name__)

WARN_SECONDS = 60.0


class HookWatch:
    """The hooks of one run that are under way.

    Args:
        timeout: Seconds that one call may take; None for as long as it likes.

    Attributes:
        deadlines: `with` blocks for calls of hooks; None where nothing bounds them.
    """

    def __init__(self, timeout: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._numbers = count()
        self._calls: dict[int, tuple[str, str, float]] = {}  # name, item and start: begun and ended for every item
        self._named: dict[int, float] = {}  # when to name it again
        self._timer: asyncio.TimerHandle | None = None
        self.deadlines = None if timeout is None else Deadlines(timeout)

    def begin(self, name: str, item_id: str) -> int:
        """Note that a hook is called, and return the number that `end` takes."""
        number, now = next(self._numbers), self._loop.time()
        self._calls[number] = (name, item_id, now)
        if self._timer is None:
            self._timer = self._loop.call_at(now + WARN_SECONDS, self._ring)
        return number

    def end(self, number: int) -> None:
        """Note that a hook has come back."""
        del self._calls[number]

    def close(self) -> None:
        """Let no timer be left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.deadlines is not None:
            self.deadlines.close()

    def _ring(self) -> None:
        now, self._named = self._loop.time(), {key: due for key, due in self._named.items() if key in self._calls}
        dues: list[float] = []
        for number, (name, item_id, started) in self._calls.items():
            due = self._named.get(number, started + WARN_SECONDS)
            if due <= now:
                text = (
                    "%s has been at item %s for %.0f s: the item waits for it; ProcessorConfig.hook_timeout bounds it"
                )
                logger.warning(text, name, item_id, now - started)
                due = self._named[number] = started + 2 * (now - started)
            dues.append(due)
        self._timer = self._loop.call_at(min(dues), self._ring) if dues else None
