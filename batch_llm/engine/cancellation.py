"""Distinction between the cancellation of a run and a `CancelledError` that users' code raised or requested."""

from __future__ import annotations

import asyncio

NEVER_SUPPRESSED = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""Exceptions that end the program or close a coroutine; any other exception of users' code fails one item at most."""


def requests() -> int:
    """Return the number of pending cancellation requests of the current task."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def is_requested() -> bool:
    """Return whether the cancellation of the current task was requested; False if code only raised `CancelledError`."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def forgive() -> None:
    """Undo a delivered cancellation of the current task that its own code requested."""
    task = asyncio.current_task()
    while task is not None and task.cancelling() > 0:
        task.uncancel()


async def absorb() -> bool:
    """Undo a cancellation of the current task that its own code requested; return whether it was still pending.

    Before Python 3.13, an undone cancellation is still delivered at the next `await`.
    """
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        return True
    finally:
        forgive()
    return False
