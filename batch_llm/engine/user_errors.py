"""Containing what users' code raises, and the cancellations that it asks of its own task.

try:
    await middleware.on_error(item, error)
except BaseException as raised:
    await contain(raised, is_ending, "Middleware %s raised", name)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from . import cancellation

logger = logging.getLogger(__name__)


async def contain(error: BaseException, is_ending: Callable[[], bool], message: str, *args: object) -> None:
    """Log `message` and the error that is being handled; the run's cancellation goes on its way, whatever became of it.

    Args:
        error: What was raised.
        is_ending: Whether the current task is being taken down; a cancellation at any other time is the code's own.
        message: What to log.
        args: Of `message`.

    Raises:
        asyncio.CancelledError: The current task is being taken down; also where a hook made another error of that.
    """
    if isinstance(error, cancellation.NEVER_CONTAINED):
        raise error
    await settle(error, is_ending)
    logger.warning(message, *args, exc_info=error)


async def settle(error: BaseException | None, is_ending: Callable[[], bool]) -> bool:
    """Take back what users' code asked of its own task; whether a cancellation was still to arrive.

    Args:
        error: What was raised; None where users' code returned: then what it gave counts, also at the end of all.
        is_ending: As above.

    Raises:
        asyncio.CancelledError: The current task is being taken down.
    """
    if not cancellation.is_requested() or (error is None and is_ending()):
        return False
    if is_ending():
        raise error if isinstance(error, asyncio.CancelledError) else asyncio.CancelledError from error
    was_pending = await cancellation.absorb()
    if is_ending():  # meanwhile
        raise asyncio.CancelledError from error
    return was_pending
