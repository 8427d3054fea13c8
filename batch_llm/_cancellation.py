"""Telling the run's own cancellation from a `CancelledError` that a user's code raised."""

from __future__ import annotations

import asyncio


def is_requested() -> bool:
    """Whether somebody asked the current task to end; a strategy or a hook that raises by itself leaves this False."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def forgive() -> None:
    """Take back a cancellation of the current task that its own code asked for, and that has arrived."""
    task = asyncio.current_task()
    while task is not None and task.cancelling() > 0:
        task.uncancel()
