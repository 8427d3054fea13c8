"""Bounds calls in time, with one timer for all the calls of a worker instead of one for each.

    idle ──enter──> open ──exit──────────────────> idle; its timer runs on, and finds out when it rings
                     │ └─the timer rings early──> open, with a timer for the call that is in it now
                     └───the timer rings in time──> expired: the call is cancelled ──exit──> idle

`asyncio.timeout` costs a third of what bare calls cost, most of it for timers that never ring.
"""

from __future__ import annotations

import asyncio
from types import TracebackType


class Deadline:
    """A `with` block that may last so many seconds; then its task is cancelled, and the block raises TimeoutError.

    One at a time may use it, again and again.

    Attributes:
        expired: Whether the latest block lasted too long.
        is_disturbed: Whether the latest block left its task cancelled, otherwise than by lasting too long.
    """

    __slots__ = ("_cancelling", "_due", "_home", "_loop", "_seconds", "_task", "_timer", "expired", "is_disturbed")

    def __init__(self, seconds: float, home: list[Deadline]) -> None:
        self._seconds = seconds
        self._home = home
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._due = 0.0
        self._cancelling = 0
        self.expired = self.is_disturbed = False

    def __enter__(self) -> Deadline:
        self._task = task = asyncio.current_task(self._loop)
        assert task is not None
        self._cancelling = task.cancelling()
        self.expired = False
        self._due = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._due, self._ring)
        return self

    def renew(self) -> None:
        """Give the block its seconds again, from now on."""
        self._due = self._loop.time() + self._seconds

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        assert task is not None
        self._home.append(self)
        # As in `asyncio.timeout`: the block's own cancellation is taken back, anybody else's goes on.
        cancelling = task.uncancel() if self.expired else task.cancelling()
        self.is_disturbed = cancelling > self._cancelling
        if self.expired and not self.is_disturbed and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _ring(self) -> None:
        rang, self._timer = self._timer, None
        if self._task is None or rang is None:
            return
        if rang.when() < self._due:
            self._timer = self._loop.call_at(self._due, self._ring)
        else:
            self.expired = True
            self._task.cancel()

    def close(self) -> None:
        """Let no timer be left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Deadlines:
    """As many deadlines of the same length as there are calls at a time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._idle: list[Deadline] = []

    def one(self) -> Deadline:
        """Return one that nobody uses; it comes back at the end of its block."""
        return self._idle.pop() if self._idle else Deadline(self._seconds, self._idle)

    def close(self) -> None:
        """Let no timer be left, once no call is in flight."""
        for deadline in self._idle:
            deadline.close()
