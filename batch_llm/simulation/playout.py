"""Simulation of the first shards of each process in virtual time, with the real engine and governor.

Short runs are simulated completely.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import Random

from batch_llm.engine import retry_policy
from batch_llm.engine.retry_policy import backoff
from batch_llm.errors import RunStopped
from batch_llm.items import AnyResult, AnyWorkItem, LLMWorkItem
from batch_llm.pacing.governor import Governor
from batch_llm.processor import ParallelBatchProcessor

from . import virtual_time
from .measured_costs import PROCESS_SECONDS, SHARD_SECONDS
from .provider import Core, Counts, Provider, SimulatedCalls, SimulatedErrors
from .scenario import Scenario

MOST_ITEMS = 16_000
"""Number of simulated items if shards are small; simulating them takes a few seconds."""

MOST_PROCESSES = 4
"""Maximum number of simulated processes; they get their share of the limits."""

ROUNDS = 4
"""Shards of each simulated process. The first reaches the steady rate and the last keeps the load of the other
processes realistic; only those in between are used for extrapolation."""

CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True, slots=True)
class ShardEnd:
    """A simulated shard that has finished.

    Attributes:
        at: Time at which it finished.
        items: Number of its items.
        failed: Items without an answer.
        drained: Seconds lost at its start and while waiting for its last calls.
    """

    at: float
    items: int
    failed: int
    drained: float


@dataclass
class SimulatedWindow:
    """The simulated part of a run.

    Attributes:
        processes: Number of simulated processes.
        share: Their share of all processes.
        whole: Whether all shards of these processes are simulated.
        shard_size: Items per simulated shard, which may be fewer than in the run.
        began: Time at which the first shard after the canary could start.
        ahead: Items of the canary.
        ends: Finished shards, in order.
        counts: Calls and tokens seen by the provider.
        busy: CPU seconds of all simulated processes.
    """

    processes: int
    share: float
    whole: bool
    shard_size: int
    began: float = 0.0
    ahead: int = 0
    ends: list[ShardEnd] = field(default_factory=list[ShardEnd])
    counts: Counts = field(default_factory=Counts)
    busy: float = 0.0

    @property
    def seconds(self) -> float:
        """Time at which the last shard finished."""
        return self.ends[-1].at

    @property
    def working_seconds(self) -> float:
        """Duration from the start of the first shard to the end of the last shard."""
        return self.seconds - self.began

    @property
    def items(self) -> int:
        """Number of simulated items."""
        return self.ahead + sum(end.items for end in self.ends)


def play(scenario: Scenario) -> SimulatedWindow:
    """Simulate the first shards of a scenario; the result is deterministic."""
    before = retry_policy.generator.set(Random(scenario.items))
    try:
        return virtual_time.run(_Play(scenario).run())
    finally:
        retry_policy.generator.reset(before)


class _Play:
    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        processes = min(scenario.at_once, MOST_PROCESSES)
        self._share = processes / scenario.at_once
        self._workers = max(processes, round(scenario.workers * self._share))
        items = math.ceil((scenario.items - scenario.sent_ahead) * self._share)
        size, number = _shards(scenario, items, processes, self._workers)
        self._left = deque(_sizes(min(items, size * number), size))
        whole = sum(self._left) == items
        self._start_seconds = PROCESS_SECONDS if scenario.has_pool else 0.0
        self._window = SimulatedWindow(processes, self._share, whole, size, ahead=scenario.sent_ahead)
        self._provider = Provider(scenario, self._share)
        self._governor = Governor(scenario.limits if scenario.limits_known else None)
        self._governor.scope.set_share(self._share)
        self._prompt = "x" * round(scenario.input_tokens * CHARACTERS_A_TOKEN)

    async def run(self) -> SimulatedWindow:
        if self._window.ahead:
            await self._send_ahead(self._window.ahead)
        self._window.began = asyncio.get_running_loop().time() + self._start_seconds
        each, more = divmod(self._workers, self._window.processes)
        async with asyncio.TaskGroup() as group:
            for number in range(self._window.processes):
                group.create_task(self._run_process(each + (number < more)))
        self._window.counts = self._provider.counts
        return self._window

    async def _send_ahead(self, items: int) -> None:
        """Run the canary in one process; all other shards start after it."""
        await asyncio.sleep(self._start_seconds + SHARD_SECONDS)
        calls = SimulatedCalls(self._provider, Core(), self._scenario.core_seconds)
        await self._run_attempt(_Stream(items, self._prompt, calls), max(1, self._workers // self._window.processes))

    async def _run_process(self, workers: int) -> None:
        """Run shards like a process: one after another, until none is left."""
        await asyncio.sleep(self._start_seconds)
        core = Core()
        calls = SimulatedCalls(self._provider, core, self._scenario.core_seconds)
        while self._left:
            await self._run_shard(self._left.popleft(), workers, calls)
        self._window.busy += core.busy

    async def _run_shard(self, items: int, workers: int, calls: SimulatedCalls) -> None:
        clock = asyncio.get_running_loop().time
        began, left, drained = clock(), items, 0.0
        for attempt in range(1, self._scenario.shard_retry.max_attempts + 1):
            await asyncio.sleep(SHARD_SECONDS)
            stream = _Stream(left, self._prompt, calls)
            left = await self._run_attempt(stream, workers)
            if attempt == 1:
                drained = max(0.0, clock() - began - stream.paced_seconds)
            if not left or attempt == self._scenario.shard_retry.max_attempts:
                break
            await asyncio.sleep(backoff(self._scenario.shard_retry, attempt, retry_policy.draw()))
        self._window.ends.append(ShardEnd(clock(), items, left, drained))

    async def _run_attempt(self, stream: _Stream, workers: int) -> int:
        config = replace(self._scenario.config, max_workers=workers, progress_interval=10**9)
        processor = ParallelBatchProcessor[None, None, None](
            config, error_classifier=SimulatedErrors(), governor=self._governor
        )
        answered = 0
        async with processor:
            with suppress(RunStopped):  # like an attempt of a shard that stops early
                async for result in processor.process_stream(stream):
                    answered += _is_answered(result)
        return stream.items - answered  # including items that were not attempted


def _is_answered(result: AnyResult) -> bool:
    return result.success


class _Stream:
    """Items of a shard, with the rate at which the engine takes the second half of them."""

    def __init__(self, items: int, prompt: str, calls: SimulatedCalls) -> None:
        self.items, self._prompt, self._calls = items, prompt, calls
        self._middle = self._end = 0.0

    def __iter__(self) -> Iterator[AnyWorkItem]:
        clock = asyncio.get_running_loop().time
        for number in range(self.items):
            if number == self.items // 2:
                self._middle = clock()
            self._end = clock()
            yield LLMWorkItem(str(number), self._calls, self._prompt)

    @property
    def paced_seconds(self) -> float:
        """Duration of all items at that rate."""
        later = self.items - 1 - self.items // 2
        return (self._end - self._middle) * self.items / max(1, later)


def _shards(scenario: Scenario, items: int, processes: int, workers: int) -> tuple[int, int]:
    """Return the size and the number of simulated shards; `items` is the part of the simulated processes."""
    most = max(MOST_ITEMS // (ROUNDS * processes), 10 * math.ceil(workers / processes))
    size = min(scenario.items_a_shard, most)
    rounds = max(ROUNDS, MOST_ITEMS // (size * processes))
    return size, min(rounds * processes, math.ceil(items / size))


def _sizes(items: int, size: int) -> Iterator[int]:
    while items > 0:
        yield min(size, items)
        items -= size
