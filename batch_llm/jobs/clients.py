"""A strategy that owns the client it was built with, and closes it when the run ends."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from batch_llm.strategies.base import LLMCallStrategy


class OwningStrategy(LLMCallStrategy[Any]):
    """Makes its calls through another strategy.

    The strategies themselves leave clients alone, for they belong to whoever passes them in; a job's are ours.

    Args:
        strategy: Makes the calls.
        client: What its calls go through; open from the first item's start to the end of the run.
    """

    def __init__(self, strategy: LLMCallStrategy[Any], client: AbstractAsyncContextManager[Any]) -> None:
        self._strategy = strategy
        self._client = client
        self._is_open = False

    async def prepare(self) -> None:
        """Open the client, once, however often the strategy's own preparation is tried."""
        if not self._is_open:
            await self._client.__aenter__()
            self._is_open = True
        await self._strategy.prepare()

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[Any, dict[str, int]]:
        """Make one call."""
        return await self._strategy.execute(prompt, attempt, timeout)

    async def cleanup(self) -> None:
        """Clean up, then close the client."""
        try:
            await self._strategy.cleanup()
        finally:
            self._is_open = False
            await self._client.__aexit__(None, None, None)
