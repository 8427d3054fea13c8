"""Starts of calls are spread so that the event loop keeps up; a CPU-bound run is logged once; in virtual time."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest

from batch_llm import (
    ErrorInfo,
    Governor,
    Limits,
    LLMCallStrategy,
    LLMWorkItem,
    ParallelBatchProcessor,
    ProcessorConfig,
    RateLimitStrategy,
)
from tests.support.scripted_strategies import Item, process, rate_limit

pytestmark = pytest.mark.looptime

CALLS = 60


class LoopClock:
    """Clock that lets time pass within one round of the loop, which is then busy or blocked."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._time, loop.time = loop.time, self.time
        self._passed = 0.0
        self.cpu_seconds = 0.0

    def time(self) -> float:
        return self._time() + self._passed

    def busy(self, seconds: float) -> None:
        self.blocked(seconds)
        self.cpu_seconds += seconds

    def blocked(self, seconds: float) -> None:
        self._passed += seconds


class Heavy(LLMCallStrategy[str]):
    """Strategy whose calls start with CPU work, like an SDK's; `starts` counts them per round of the loop."""

    def __init__(self, keep: Callable[[float], None], seconds: float) -> None:
        self._keep = keep
        self._seconds = seconds
        self._round: object | None = None
        self.starts: Counter[object] = Counter()

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        if self._round is None:
            self._round = object()
            asyncio.get_running_loop().call_soon(self._next_round)
        self.starts[self._round] += 1
        self._keep(self._seconds)
        await asyncio.sleep(0.001)
        return "ok", {}

    def _next_round(self) -> None:
        self._round = None


async def run(strategy: Heavy, governor: Governor | None = None, calls: int = CALLS) -> None:
    processor = ParallelBatchProcessor[None, str, None](ProcessorConfig(max_workers=CALLS), governor=governor)
    for number in range(calls):
        await processor.add_work(LLMWorkItem(str(number), strategy))
    assert (await processor.process_all()).succeeded == calls


async def test_sixty_calls_with_cpu_work_start_in_several_rounds_of_the_loop() -> None:
    strategy = Heavy(LoopClock().busy, 0.01)
    await run(strategy)
    assert sum(strategy.starts.values()) == CALLS
    assert max(strategy.starts.values()) <= 5  # 20 ms of 10 ms each, and those that were let in


async def test_call_that_waits_for_the_loop_also_waits_for_a_cooldown_that_starts_meanwhile() -> None:
    """The first call keeps the loop busy, so that the second waits for its turn; then the first is refused."""
    clock, times = LoopClock(), dict[str, float]()

    class Refused(LLMCallStrategy[str]):
        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            if prompt == "first" and "refused" not in times:
                clock.busy(0.05)
                await asyncio.sleep(0)
                times["refused"] = clock.time()
                raise rate_limit()
            times[prompt] = clock.time()
            return "ok", {}

    class Asked(RateLimitStrategy):
        async def handle_rate_limit(self, error_info: ErrorInfo, attempt: int) -> float:
            await asyncio.sleep(0.01)  # meanwhile the loop lets in who waits
            return 0.1

    work = [Item(name, Refused(), name) for name in ("first", "second")]
    assert (await process(work, rate_limit_strategy=Asked())).succeeded == 2
    assert times["second"] >= times["refused"] + 0.1


async def test_calls_without_cpu_work_start_at_once() -> None:
    strategy = Heavy(LoopClock().busy, 0.0)
    await run(strategy)
    assert list(strategy.starts.values()) == [CALLS]


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        (LoopClock.busy, "CPU-bound at 5 calls/s"),
        (LoopClock.blocked, "Calls wait for a blocked event loop (it used 0 %"),
    ],
)
async def test_cpu_bound_run_is_logged_once_with_a_fix(
    keep: Callable[[LoopClock, float], None],
    words: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = LoopClock()
    monkeypatch.setattr("batch_llm.pacing.loop_throttle.time", SimpleNamespace(thread_time=lambda: clock.cpu_seconds))
    await run(Heavy(partial(keep, clock), 0.2))
    lines = [record.getMessage() for record in caplog.records if record.name == "batch_llm.pacing.loop_throttle"]
    assert len(lines) == 1
    assert words in lines[0]


@pytest.mark.sample(1)
@pytest.mark.parametrize(("a_second", "is_bound"), [(1000, True), (400, False)])
async def test_cpu_bound_run_is_distinguished_from_a_rate_limited_one(
    a_second: float, is_bound: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls wait for either; every fourth keeps the loop busy for 7.5 ms, so that it can run 533 per second."""
    clock, numbers = LoopClock(), itertools.count()

    def keep(_: float) -> None:
        clock.busy(0.0 if next(numbers) % 4 else 0.0075)

    monkeypatch.setattr("batch_llm.pacing.loop_throttle.time", SimpleNamespace(thread_time=lambda: clock.cpu_seconds))
    await run(Heavy(keep, 0.0), Governor(Limits(requests_per_minute=60 * a_second)), 6000)
    lines = [record.getMessage() for record in caplog.records if record.name == "batch_llm.pacing.loop_throttle"]
    assert [line.partition(":")[0] for line in lines] == ["CPU-bound at 533 calls/s"] * is_bound
