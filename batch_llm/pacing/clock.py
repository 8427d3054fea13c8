"""The clock of the running event loop, without the frame that asyncio's own loop puts around it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def loop_clock() -> Callable[[], float]:
    """Return what the running loop's `time` returns. A call asks several times, so a Python frame less each counts."""
    loop = asyncio.get_running_loop()
    is_plain = getattr(type(loop), "time", None) is asyncio.BaseEventLoop.time
    return time.monotonic if is_plain else loop.time
