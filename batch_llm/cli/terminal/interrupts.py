"""Ctrl-C, SIGTERM and SIGHUP as one exception: the first signal stops gracefully, the second at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

from pydantic_core import PydanticSerializationError, ValidationError


class Interrupts:
    """Turns signals into `KeyboardInterrupt`.

    Attributes:
        count: Number of signals received.
    """

    def __init__(self) -> None:
        self.count = 0
        self._held = False

    @contextmanager
    def held(self) -> Generator[None]:
        """Delay signals inside the block: a started process must be registered before it can be stopped."""
        before, self._held = self.count, True
        try:
            yield
        finally:
            self._held = False
        if self.count > before:
            raise KeyboardInterrupt

    def end(self, gently: Callable[[], object], at_once: Callable[[], object]) -> None:
        """Call `gently`; call `at_once` if a second signal arrives before it returns."""
        try:
            if self.count < 2:
                gently()
                return
        except KeyboardInterrupt:
            pass
        self._held = True  # permanently: the command exits next
        at_once()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.count += 1
        if not self._held:
            raise KeyboardInterrupt

    @classmethod
    @contextmanager
    def caught(cls) -> Generator[Interrupts]:
        """Catch signals while this context is open."""
        self = cls()
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under `nohup` the command must continue
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            yield self
        except Exception as error:
            if self.count and is_interrupt(error):
                raise KeyboardInterrupt from error
            raise
        finally:
            for number, handler in before.items():
                # After the first signal the command is exiting: another one would only change the exit code.
                signal.signal(number, signal.SIG_IGN if self.count else handler)


def is_interrupt(error: BaseException | None) -> bool:
    """Return whether an error was caused by a `KeyboardInterrupt`, which libraries turn into errors of their own.

    The interrupt is the error's cause; when pydantic serializes, or reads iterators or attributes, the text names it.
    """
    if error is None:
        return False
    is_pydantics = isinstance(error, PydanticSerializationError | ValidationError)
    is_named = is_pydantics and KeyboardInterrupt.__name__ in str(error)
    return is_named or isinstance(error, KeyboardInterrupt) or is_interrupt(error.__cause__)
