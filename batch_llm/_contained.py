"""Containing what users' code raises."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType

from . import _cancellation

logger = logging.getLogger(__name__)


class contained:  # noqa: N801  reads as the `with` it is; a generator would cost more than what it contains
    """Log what users' code raises, its own `CancelledError` included; let the run's cancellation through."""

    __slots__ = ("_args", "_what")

    def __init__(self, what: str, *args: object) -> None:
        self._what = what
        self._args = args

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception | asyncio.CancelledError) or _cancellation.is_requested():
            return False
        logger.warning(f"{self._what} raised; the item goes on", *self._args, exc_info=error)
        return True
