"""Whose code a process spends its CPU in, found by looking at its stack again and again."""

from __future__ import annotations

import signal
from collections import Counter
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Self

import batch_llm

_OURS = str(Path(batch_llm.__file__).parent) + "/"
_INSTALLED = ("/site-packages/", "/dist-packages/")


class Owner(StrEnum):
    """Package that a sample counts for."""

    OURS = "ours"
    SDK = "SDK"
    LOOP = "event loop"


class CpuSampler:
    """Samples the main thread while the block runs, at most once in a millisecond of the process's CPU time.

    A sample counts for the innermost frame that is ours or an installed package's: the standard library works for
    whoever called it. Where there is neither, the event loop is at work. The kernel's clock may tick more slowly than
    a millisecond (setitimer(2)): shares stay right, samples get fewer.
    """

    INTERVAL_SECONDS = 0.001

    def __init__(self) -> None:
        self.samples = Counter[Owner]()

    def share(self, whose: Owner) -> float:
        """Return the share of the samples, from 0 to 1; 0 where there is no sample."""
        return self.samples[whose] / max(1, self.samples.total())

    def __enter__(self) -> Self:
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, self.INTERVAL_SECONDS, self.INTERVAL_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        self.samples[owner(frame)] += 1


def owner(frame: FrameType | None) -> Owner:
    """Return the owner of the innermost frame of a known package, starting at `frame`."""
    while frame is not None:
        if found := _owner_of_file(frame.f_code.co_filename):
            return found
        frame = frame.f_back
    return Owner.LOOP


@cache
def _owner_of_file(name: str) -> Owner | None:
    if name.startswith(_OURS):
        return Owner.OURS
    return Owner.SDK if any(part in name for part in _INSTALLED) else None
