"""Prepare a strategy once, clean it up once, however many items share it.

unknown ──ready()──> preparing ──ok──> prepared ──close()──> cleaned up
            ^             │
            └──── fails ──┘   (the attempt that asked fails; the next one that asks prepares again)
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from ._contained import CONTAINED, contain
from .strategies.base import LLMCallStrategy

CLEANUP_SECONDS = 60.0
CLEANUPS_AT_ONCE = 10


@dataclass(eq=False, slots=True)
class _Lifetime:
    strategy: LLMCallStrategy[object]
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    prepared: bool = False


class Lifetimes:
    """The strategies of one run.

    They are told apart by identity: equal instances have clients and caches of their own, and may not be hashable. The
    entry keeps its strategy alive, so an `id` is not given to another one meanwhile.
    """

    def __init__(self) -> None:
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
        """Prepare `strategy` unless somebody does or did; raises what its `prepare` raises."""
        lifetime = self._lifetimes.setdefault(id(strategy), _Lifetime(strategy))
        async with lifetime.lock:
            if not lifetime.prepared:
                await strategy.prepare()
                lifetime.prepared = True

    async def close(self) -> None:
        """Clean up what was prepared, the last first; what fails or hangs is logged."""
        prepared = [lifetime.strategy for lifetime in self._lifetimes.values() if lifetime.prepared]
        self._lifetimes.clear()

        async def clean_up_some() -> None:
            while prepared:
                await _clean_up(prepared.pop())

        async with asyncio.TaskGroup() as group:
            for _ in range(min(CLEANUPS_AT_ONCE, len(prepared))):
                group.create_task(clean_up_some())


async def _clean_up(strategy: LLMCallStrategy[object]) -> None:
    name = type(strategy).__name__
    try:
        async with asyncio.timeout(CLEANUP_SECONDS):
            await strategy.cleanup()
    except CONTAINED as error:
        contain(error, "Cleaning up %s failed; what it created at the provider may still be there", name)
