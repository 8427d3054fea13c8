"""Calls start as the event loop can take them; what is too much for it is said once. In real time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest

from batch_llm import (
    ErrorInfo,
    LLMCallStrategy,
    LLMWorkItem,
    ParallelBatchProcessor,
    ProcessorConfig,
    RateLimitStrategy,
)

from .script import Item, process, rate_limit

CALLS = 60
SECONDS_A_START = 0.01


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class Heavy(LLMCallStrategy[str]):
    """A call whose start keeps the loop for a while, as an SDK's does; `rounds` are the loop's, counted beside."""

    def __init__(self, keep: Callable[[float], None]) -> None:
        self._keep = keep
        self._rounds = 0
        self.starts: Counter[int] = Counter()

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        self.starts[self._rounds] += 1
        self._keep(SECONDS_A_START)
        await asyncio.sleep(0.001)
        return "ok", {}

    async def count_rounds(self) -> None:
        while True:
            self._rounds += 1
            await asyncio.sleep(0)


async def run(strategy: Heavy) -> None:
    counting = asyncio.create_task(strategy.count_rounds())
    processor = ParallelBatchProcessor[None, str, None](ProcessorConfig(max_workers=CALLS))
    for number in range(CALLS):
        await processor.add_work(LLMWorkItem(str(number), strategy))
    result = await processor.process_all()
    counting.cancel()
    with suppress(asyncio.CancelledError):
        await counting
    assert result.succeeded == CALLS


async def test_sixty_heavy_calls_do_not_start_in_one_round_of_the_loop() -> None:
    strategy = Heavy(burn)
    await run(strategy)
    assert sum(strategy.starts.values()) == CALLS
    assert max(strategy.starts.values()) <= 5  # 20 ms of 10 ms each, and those that were let in


async def test_who_waits_for_the_loop_while_a_rate_limit_is_met_waits_for_its_end_too() -> None:
    """The first call keeps the loop, so that the second waits for a turn; then it is refused."""
    clock, times = asyncio.get_running_loop().time, dict[str, float]()

    class Refused(LLMCallStrategy[str]):
        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            if prompt == "first" and "refused" not in times:
                burn(0.05)
                await asyncio.sleep(0)
                times["refused"] = clock()
                raise rate_limit()
            times[prompt] = clock()
            return "ok", {}

    class Asked(RateLimitStrategy):
        async def handle_rate_limit(self, error_info: ErrorInfo, attempt: int) -> float:
            await asyncio.sleep(0.01)  # meanwhile the loop lets in who waits
            return 0.1

    work = [Item(name, Refused(), name) for name in ("first", "second")]
    assert (await process(work, rate_limit_strategy=Asked())).succeeded == 2
    assert times["second"] >= times["refused"] + 0.1


async def test_calls_that_start_quickly_all_start_at_once() -> None:
    strategy = Heavy(lambda _: None)
    await run(strategy)
    assert len(strategy.starts) < CALLS / 4


@pytest.mark.parametrize(
    ("keep", "words"), [(burn, "CPU-bound at"), (time.sleep, "which something blocks")], ids=["busy", "blocked"]
)
async def test_a_loop_that_is_the_bottleneck_is_said_once_with_what_to_do(
    keep: Callable[[float], None],
    words: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("batch_llm._turnstile.WINDOW_SECONDS", 0.1)  # else it takes five seconds to say it
    await run(Heavy(keep))
    lines = [record.getMessage() for record in caplog.records if record.name == "batch_llm._turnstile"]
    assert len(lines) == 1
    assert words in lines[0]
