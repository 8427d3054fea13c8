"""The part of a run that is played out in virtual time, by the real engine and governor.

It is the first shards of each process; all of them where that is little.
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
"""Items that are played out, at least where shards are small; some seconds."""

MOST_PROCESSES = 4
"""Processes that are played out, with their share of the limits."""

ROUNDS = 4
"""Shards of each process: the first finds the pace, the last is for the others' company, those between count."""

CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True, slots=True)
class ShardEnd:
    """A shard that ended.

    Attributes:
        at: When.
        items: Its items.
        failed: Those without an answer.
        drained: Seconds that its time would be shorter by if it never ended: its beginning and its last calls.
    """

    at: float
    items: int
    failed: int
    drained: float


@dataclass
class SimulatedWindow:
    """What was played out.

    Attributes:
        processes: Those that were played out.
        share: Their part of all processes.
        whole: Whether it is all that these processes do.
        shard_size: Items of its shards, which may be smaller than the run's.
        began: When the first shard could begin that does not go ahead.
        ahead: Items that went before it, alone.
        ends: The ends of its shards, in order.
        counts: What the provider saw.
        busy: Seconds that the processes' cores worked, in all.
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
        """When its last shard ended."""
        return self.ends[-1].at

    @property
    def working_seconds(self) -> float:
        """From its first shard's beginning to its last one's end."""
        return self.seconds - self.began

    @property
    def items(self) -> int:
        """Items in it."""
        return self.ahead + sum(end.items for end in self.ends)


def play(scenario: Scenario) -> SimulatedWindow:
    """Play out a window; the same scenario gives the same window."""
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
        self._governor = Governor(scenario.limits if scenario.told else None)
        self._governor.set_share(self._share)
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
        """Answer the canary in a process that then carries other shards; the others start when it is back."""
        await asyncio.sleep(self._start_seconds + SHARD_SECONDS)
        calls = SimulatedCalls(self._provider, Core(), self._scenario.core_seconds)
        await self._run_attempt(_Stream(items, self._prompt, calls), max(1, self._workers // self._window.processes))

    async def _run_process(self, workers: int) -> None:
        """Carry shards as a process does: one after another, until none is left."""
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
            with suppress(RunStopped):  # as a shard's try that ends early
                async for result in processor.process_stream(stream):
                    answered += _is_answered(result)
        return stream.items - answered  # also those that a run that ended early has not come to


def _is_answered(result: AnyResult) -> bool:
    return result.success


class _Stream:
    """The items of a shard, and how fast the engine pulls the later half of them: one whenever another is done."""

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
        """What all its items would take at that pace."""
        later = self.items - 1 - self.items // 2
        return (self._end - self._middle) * self.items / max(1, later)


def _shards(scenario: Scenario, items: int, processes: int, workers: int) -> tuple[int, int]:
    """Return the size of the shards that are played out, and how many; `items` is the part of these processes."""
    most = max(MOST_ITEMS // (ROUNDS * processes), 10 * math.ceil(workers / processes))
    size = min(scenario.items_a_shard, most)
    rounds = max(ROUNDS, MOST_ITEMS // (size * processes))
    return size, min(rounds * processes, math.ceil(items / size))


def _sizes(items: int, size: int) -> Iterator[int]:
    while items > 0:
        yield min(size, items)
        items -= size
