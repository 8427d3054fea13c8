"""Clock of the running event loop, without the Python frame of `loop.time`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def loop_clock() -> Callable[[], float]:
    """Return a faster function with the values of the running loop's `time`, which each call needs several times."""
    loop = asyncio.get_running_loop()
    is_plain = getattr(type(loop), "time", None) is asyncio.BaseEventLoop.time
    return time.monotonic if is_plain else loop.time
