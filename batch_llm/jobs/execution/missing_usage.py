"""Estimates of token usage that a strategy does not report, with one warning per run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from batch_llm.errors import CallFailed
from batch_llm.jobs.storage.json_files import to_json
from batch_llm.jobs.storage.store import Store
from batch_llm.strategies.base import LLMCallStrategy
from batch_llm.strategies.billing import complete

_log = logging.getLogger(__name__)

_WARNED = "usage-estimated"
"""File in the run's folder; the process that creates it logs the warning."""


class UsageEstimatingStrategy(LLMCallStrategy[Any]):
    """Strategy that calls the strategy of the user and estimates the tokens that it does not report.

    Args:
        calls: Strategy that makes the calls.
    """

    def __init__(self, calls: LLMCallStrategy[Any]) -> None:
        self._calls = calls
        if (own := getattr(calls, "dry_run", None)) is not None:
            self.dry_run: Callable[[str], Any] = own

    async def prepare(self) -> None:
        await self._calls.prepare()

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[Any, dict[str, int]]:
        """Make one call; a result that is not a pair of answer and usage is rejected by the engine."""
        try:
            answer = await self._calls.execute(prompt, attempt, timeout)
        except CallFailed as error:
            raise CallFailed(error.error, complete(error.token_usage, prompt, str)) from error
        match answer:
            case (output, dict() as usage):
                return output, complete(usage, prompt, lambda: _text(output))
            case _:
                return answer

    async def cleanup(self) -> None:
        await self._calls.cleanup()


class UsageWarning:
    """Warning that usage is estimated, logged once per run over all its shards and processes."""

    def __init__(self, run: Store) -> None:
        self._run = run
        self._is_over = False

    async def note(self, estimated_tokens: int) -> None:
        """Log the warning if this is the first estimate of the run."""
        if not estimated_tokens or self._is_over:
            return
        self._is_over = True
        try:
            is_first = await asyncio.to_thread(self._run.create, _WARNED, b"")
        except OSError:
            is_first = True  # a repeated warning is better than none
        if is_first:
            _log.warning(
                "The provider reports no usable token usage: the tokens are estimated from the length of the texts, "
                "and the cost and the budgets of this run count the estimates."
            )


def _text(output: Any) -> str:
    return output if isinstance(output, str) else "" if output is None else to_json(output)
