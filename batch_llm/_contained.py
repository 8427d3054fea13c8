"""Containing what users' code raises.

try:
    await middleware.on_error(item, error)
except CONTAINED as raised:
    contain(raised, "Middleware %s raised", name)
"""

from __future__ import annotations

import asyncio
import logging

from . import _cancellation

logger = logging.getLogger(__name__)

CONTAINED = (Exception, asyncio.CancelledError)
"""What users' code may raise: a `CancelledError` of its own making, too."""


def contain(error: BaseException, message: str, *args: object) -> None:
    """Log `message` and the error that is being handled, unless the run is cancelled, which goes on its way."""
    if _cancellation.is_requested():
        raise error
    logger.warning(message, *args, exc_info=error)
