"""Several ways to the same model: each call takes the one with the least to do."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from batch_llm.strategies.base import LLMCallStrategy


class Spread(LLMCallStrategy[Any]):
    """Makes each call through the strategy that has the fewest in flight."""

    def __init__(self, ways: Sequence[LLMCallStrategy[Any]]) -> None:
        self._ways = ways
        self._in_flight = [0] * len(ways)
        self._open = AsyncExitStack()

    async def prepare(self) -> None:
        async with AsyncExitStack() as stack:
            for way in self._ways:
                await way.prepare()
                stack.push_async_callback(way.cleanup)
            self._open = stack.pop_all()

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[Any, dict[str, int]]:
        idlest = min(range(len(self._ways)), key=self._in_flight.__getitem__)
        self._in_flight[idlest] += 1
        try:
            return await self._ways[idlest].execute(prompt, attempt, timeout)
        finally:
            self._in_flight[idlest] -= 1

    async def cleanup(self) -> None:
        await self._open.aclose()
