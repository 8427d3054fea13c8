"""Ctrl-C and SIGTERM as one exception: the first asks to end, the second ends at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

from pydantic_core import PydanticSerializationError, ValidationError


class Interrupts:
    """Turns signals into `KeyboardInterrupt`.

    Attributes:
        count: Signals so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._held = False

    @contextmanager
    def held(self) -> Generator[None]:
        """Delay signals: a process that is started must also be known to whoever ends it."""
        before, self._held = self.count, True
        try:
            yield
        finally:
            self._held = False
        if self.count > before:
            raise KeyboardInterrupt

    def end(self, gently: Callable[[], object], at_once: Callable[[], object]) -> None:
        """End something gently, unless or until there is a second signal."""
        try:
            if self.count < 2:
                gently()
                return
        except KeyboardInterrupt:
            pass
        self._held = True  # for good: nothing comes after this but the end
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
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup` wants the command to go on
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            yield self
        except Exception as error:
            if self.count and _stands_for_an_interrupt(error):
                raise KeyboardInterrupt from error
            raise
        finally:
            for number, handler in before.items():
                # After the first signal the command only ends: another one would change nothing but its exit code.
                signal.signal(number, signal.SIG_IGN if self.count else handler)


def _stands_for_an_interrupt(error: BaseException | None) -> bool:
    """Whether a library made an error of its own of our exception, as pydantic does.

    Ours is its cause, except where pydantic writes JSON, or reads an iterator or attributes: its text names it there.
    """
    if error is None:
        return False
    is_pydantics = isinstance(error, PydanticSerializationError | ValidationError)
    is_named = is_pydantics and KeyboardInterrupt.__name__ in str(error)
    return is_named or isinstance(error, KeyboardInterrupt) or _stands_for_an_interrupt(error.__cause__)
