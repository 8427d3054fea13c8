"""Lifecycle of strategies: each is prepared once and cleaned up once, even if many items share it.

unknown ──prepare()──> preparing ──ok──> prepared ──close()──> cleaned up
            ^               │
            └───── fails ───┘   (the attempt fails; the next attempt prepares the strategy again)
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from batch_llm.errors import AttemptTimedOut
from batch_llm.strategies.base import LLMCallStrategy

from .user_errors import log_unless_run_ends, undo_own_cancellation

CLEANUP_SECONDS = 60.0
CLEANUPS_AT_ONCE = 10


@dataclass(eq=False, slots=True)
class _Entry:
    strategy: LLMCallStrategy[object]
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    prepared: bool = False


class StrategyLifecycle:
    """Strategies of one run, distinguished by identity.

    Equal instances have separate clients and caches, and may not be hashable. Each entry keeps a reference to its
    strategy, so its `id` is not reused.

    Args:
        seconds: Seconds that one `prepare` may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._is_ending = False
        self._entries: dict[int, _Entry] = {}
        self._needs_nothing: dict[type, bool] = {}

    def is_ready(self, strategy: LLMCallStrategy[object]) -> bool:
        """Return whether `strategy` is prepared, or overrides neither `prepare` nor `cleanup`."""
        kind = type(strategy)
        needs_nothing = self._needs_nothing.get(kind)
        if needs_nothing is None:
            base = LLMCallStrategy[object]
            needs_nothing = kind.prepare is base.prepare and kind.cleanup is base.cleanup
            self._needs_nothing[kind] = needs_nothing
        if needs_nothing:
            return True
        entry = self._entries.get(id(strategy))
        return entry is not None and entry.prepared

    async def prepare(self, strategy: LLMCallStrategy[object]) -> None:
        """Prepare `strategy` once; concurrent callers wait for the same preparation.

        Raises:
            AttemptTimedOut: `prepare` took too long.
            Exception: Any error of `prepare`.
        """
        entry = self._entries.setdefault(id(strategy), _Entry(strategy))
        async with entry.lock:
            if not entry.prepared:
                await self._prepare(strategy)
                entry.prepared = True

    async def _prepare(self, strategy: LLMCallStrategy[object]) -> None:
        bound = asyncio.timeout(self._seconds)
        try:
            async with bound:
                await strategy.prepare()
        except TimeoutError as error:
            if not bound.expired():
                raise
            name = type(strategy).__name__
            raise AttemptTimedOut(
                f"{name}.prepare did not complete within {self._seconds:g} s (timeout_per_item)"
            ) from error

    async def close(self) -> None:
        """Clean up the prepared strategies, the latest first; failures and timeouts are logged."""
        prepared = [entry.strategy for entry in self._entries.values() if entry.prepared]
        self._entries.clear()

        async def clean_up_some() -> None:
            while prepared:
                await self._clean_up(prepared.pop())

        tasks = [asyncio.create_task(clean_up_some()) for _ in range(min(CLEANUPS_AT_ONCE, len(prepared)))]
        try:
            if tasks:
                await asyncio.wait(tasks)
        except asyncio.CancelledError:
            self._is_ending = True
            raise
        finally:
            for task in tasks:
                task.cancel()
            await _ended(tasks)

    async def _clean_up(self, strategy: LLMCallStrategy[object]) -> None:
        name = type(strategy).__name__
        try:
            async with asyncio.timeout(CLEANUP_SECONDS):
                await strategy.cleanup()
            await undo_own_cancellation(None, lambda: self._is_ending)
        except BaseException as error:
            text = "The cleanup of %s failed; resources that it created at the provider may still exist"
            await log_unless_run_ends(error, lambda: self._is_ending, text, name)


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for cancelled tasks, even if the current task is cancelled meanwhile."""
    was_cancelled = False
    while waiting := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(waiting)
        except asyncio.CancelledError:
            was_cancelled = True
    if was_cancelled:
        raise asyncio.CancelledError
    for task in tasks:
        if not task.cancelled() and (error := task.exception()):
            raise error
