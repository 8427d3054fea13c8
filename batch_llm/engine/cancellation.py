"""Telling the run's own cancellation from a `CancelledError` that a user's code raised or asked for."""

from __future__ import annotations

import asyncio

NEVER_CONTAINED = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""What ends the program, or closes a coroutine; everything else that users' code raises ends one item at most."""


def requests() -> int:
    """Return how often somebody asked the current task to end."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def is_requested() -> bool:
    """Whether somebody asked the current task to end; a strategy or a hook that raises by itself leaves this False."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def forgive() -> None:
    """Take back a cancellation of the current task that its own code asked for, and that has arrived."""
    task = asyncio.current_task()
    while task is not None and task.cancelling() > 0:
        task.uncancel()


async def absorb() -> bool:
    """Take back a cancellation of the current task that its own code asked for; whether it was still to arrive.

    Before Python 3.13 it arrives at the next `await` also when it was taken back.
    """
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        return True
    finally:
        forgive()
    return False
