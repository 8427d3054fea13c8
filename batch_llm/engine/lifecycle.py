"""Prepare a strategy once, clean it up once, however many items share it.

unknown ──ready()──> preparing ──ok──> prepared ──close()──> cleaned up
            ^             │
            └──── fails ──┘   (the attempt that asked fails; the next one that asks prepares again)
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from batch_llm.errors import AttemptTimedOut
from batch_llm.strategies.base import LLMCallStrategy

from .user_errors import contain, settle

CLEANUP_SECONDS = 60.0
CLEANUPS_AT_ONCE = 10


@dataclass(eq=False, slots=True)
class _Lifetime:
    strategy: LLMCallStrategy[object]
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    prepared: bool = False


class StrategyLifecycle:
    """The strategies of one run.

    They are told apart by identity: equal instances have clients and caches of their own, and may not be hashable. The
    entry keeps its strategy alive, so an `id` is not given to another one meanwhile.

    Args:
        seconds: How long one `prepare` may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._is_ending = False
        self._lifetimes: dict[int, _Lifetime] = {}
        self._plain: dict[type, bool] = {}

    def is_ready(self, strategy: LLMCallStrategy[object]) -> bool:
        """Whether `strategy` needs no (further) preparation; one that overrides neither hook is not even remembered."""
        kind = type(strategy)
        plain = self._plain.get(kind)
        if plain is None:
            base = LLMCallStrategy[object]
            plain = kind.prepare is base.prepare and kind.cleanup is base.cleanup
            self._plain[kind] = plain
        if plain:
            return True
        lifetime = self._lifetimes.get(id(strategy))
        return lifetime is not None and lifetime.prepared

    async def prepare(self, strategy: LLMCallStrategy[object]) -> None:
        """Prepare `strategy` unless somebody does or did; raises what its `prepare` raises.

        Raises:
            AttemptTimedOut: Its `prepare` took too long.
        """
        lifetime = self._lifetimes.setdefault(id(strategy), _Lifetime(strategy))
        async with lifetime.lock:
            if not lifetime.prepared:
                await self._prepare(strategy)
                lifetime.prepared = True

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
                f"{name}.prepare did not end within {self._seconds:g} s (timeout_per_item)"
            ) from error

    async def close(self) -> None:
        """Clean up what was prepared, the last first; what fails or hangs is logged."""
        prepared = [lifetime.strategy for lifetime in self._lifetimes.values() if lifetime.prepared]
        self._lifetimes.clear()

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
            await settle(None, lambda: self._is_ending)
        except BaseException as error:
            text = "Cleaning up %s failed; what it created at the provider may still be there"
            await contain(error, lambda: self._is_ending, text, name)


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for tasks that were told to end, however often their owner is cancelled meanwhile."""
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
