"""The event loop's clock, which is asked several times a call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Return `loop.time`, or what asyncio's own does: call `time.monotonic`."""
    return time.monotonic if type(loop).time is asyncio.BaseEventLoop.time else loop.time
