"""Handling of errors that users' code raises, and of cancellations that it requests of its own task.

try:
    await middleware.on_error(item, error)
except BaseException as raised:
    await log_unless_run_ends(raised, is_ending, "Middleware %s raised", name)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from . import cancellation

logger = logging.getLogger(__name__)


async def log_unless_run_ends(error: BaseException, is_ending: Callable[[], bool], message: str, *args: object) -> None:
    """Log an error of users' code, unless the run is cancelling the current task.

    Args:
        error: The error.
        is_ending: Function that returns whether the run cancels the current task; any other cancellation comes from
            users' code.
        message: Message to log.
        args: Arguments of `message`.

    Raises:
        asyncio.CancelledError: The run cancels the current task, even if a hook raised another error.
    """
    if isinstance(error, cancellation.NEVER_SUPPRESSED):
        raise error
    await undo_own_cancellation(error, is_ending)
    logger.warning(message, *args, exc_info=error)


async def undo_own_cancellation(error: BaseException | None, is_ending: Callable[[], bool]) -> bool:
    """Undo cancellations that users' code requested of its own task; return whether one was still pending.

    Args:
        error: Error of users' code; None if it returned a value, which is used even if the run is ending.
        is_ending: Function that returns whether the run cancels the current task.

    Raises:
        asyncio.CancelledError: The run cancels the current task.
    """
    if not cancellation.is_requested() or (error is None and is_ending()):
        return False
    if is_ending():
        raise error if isinstance(error, asyncio.CancelledError) else asyncio.CancelledError from error
    was_pending = await cancellation.absorb()
    if is_ending():  # meanwhile
        raise asyncio.CancelledError from error
    return was_pending
