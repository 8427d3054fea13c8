"""Functions that run items under a governor, or apply calls and refusals to one."""

from __future__ import annotations

from typing import Any

from batch_llm import Governor, ParallelBatchProcessor
from batch_llm.pacing.pacer import CallPermit

from .scripted_strategies import Batch, ByItself, Item, config


async def governed(work: list[Item], governor: Governor | None = None, *, workers: int = 500, **options: Any) -> Batch:
    settings = {name: options.pop(name) for name in ("rate_limit", "retry", "timeout_per_item") if name in options}
    processor = ParallelBatchProcessor[None, str, Any](
        config(workers, **settings), error_classifier=ByItself(), governor=governor or Governor(), **options
    )
    for item in work:
        await processor.add_work(item)
    return await processor.process_all()


def started(governor: Governor, at: float) -> CallPermit:
    """Start a call at `at` and return its permit."""
    turn = CallPermit(10)
    assert governor.reserve(at, turn) == at
    turn.started = at
    return turn


def refuse(governor: Governor, turn: CallPermit, at: float, *, wait: float) -> None:
    """Refuse a call, which begins a cooldown."""
    assert governor.finish(turn, at, "rate limited", {})
    governor.set_cooldown_end(at + wait, at)
