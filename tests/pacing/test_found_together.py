"""Processes that find an unknown limit together use all of it in equal shares, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

import pytest

from batch_llm import Governor, LLMCallStrategy, ParallelBatchProcessor
from batch_llm.pacing.fair_share import Pause, PublishedReport
from batch_llm.pacing.scope_member import ROUNDS, ScopeMember
from batch_llm.simulation import virtual_time
from tests.support.limited_provider import Limited
from tests.support.scripted_strategies import ByItself, Item, config, now

MEMBERS = 4
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.whole) for seed in range(1, 6))]


@dataclass
class World:
    """A provider, a server that answers within `slowest` seconds, and the processes that start one by one."""

    provider: Limited
    random: Random
    slowest: float
    workers: int
    records: dict[str, PublishedReport] = field(default_factory=dict[str, PublishedReport])
    processes: list[Process] = field(default_factory=list["Process"])
    failed: int = 0

    async def wait(self) -> None:
        """Wait as long as the server takes to answer."""
        await asyncio.sleep(self.random.uniform(0.005, self.slowest))


class Counted(LLMCallStrategy[str]):
    """Strategy that calls the provider and counts the accepted calls."""

    def __init__(self, provider: Limited) -> None:
        self.provider = provider
        self.taken = list[float]()

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        answer = await self.provider.execute(prompt, attempt, timeout)
        self.taken.append(now())
        return answer


class Process:
    """Process that calls as fast as its governor allows and exchanges reports with the others."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.governor = Governor()
        self.strategy = Counted(world.provider)
        self.member: ScopeMember | None = None
        self.api_calls = 0

    async def live(self) -> None:
        await asyncio.sleep(self.world.random.uniform(0, 3))
        member = self.member = ScopeMember(self.name, self.governor.scope, now())
        loop = asyncio.get_running_loop()
        self.governor.scope.listen(lambda until: loop.call_soon(self._refused, until, now()) and None)
        await self._cycle(member)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._share(member))
            group.create_task(self._call())

    async def _share(self, member: ScopeMember) -> None:
        while True:
            await asyncio.sleep(member.cycle_seconds)
            await self._cycle(member)

    async def _cycle(self, member: ScopeMember) -> None:
        world = self.world
        member.sample_usage(now())
        for _ in range(ROUNDS):
            sent, report = now(), member.report(now())
            await world.wait()
            born = record.created_at if (record := world.records.get(self.name)) else now()
            world.records[self.name] = PublishedReport(self.name, born, now(), report)
            await world.wait()
            member.on_written(sent, now())
            await world.wait()
            records = list(world.records.values())
            await world.wait()
            self.api_calls += 2
            if not member.on_reports(records, now()):
                return

    async def _call(self) -> None:
        processor = ParallelBatchProcessor[None, str, Any](
            config(self.world.workers), error_classifier=ByItself(), governor=self.governor
        )
        items = (Item(f"{self.name}-{number}", self.strategy, "a prompt") for number in count())
        async for result in processor.process_stream(items):
            self.world.failed += not result.success

    def _refused(self, until: float, at: float) -> None:
        assert self.member
        if pause := self.member.on_rate_limit(until, at):
            self.api_calls += 1
            for other in self.world.processes:
                if other is not self and other.member:
                    hears: Callable[[Pause, float], None] = other.member.on_pause
                    delay = self.world.random.uniform(0.01, 0.1)
                    asyncio.get_running_loop().call_later(delay, lambda hears=hears: hears(pause, now()))


def played(world: World, seconds: float) -> World:
    """Run all processes of `world` for `seconds` and return it."""

    async def play() -> None:
        world.processes += [Process(world, f"p{number}") for number in range(MEMBERS)]
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                for process in world.processes:
                    group.create_task(process.live())

    virtual_time.run(play())
    return world


@pytest.mark.sample(1)
@pytest.mark.parametrize("slowest", [pytest.param(0.05, marks=pytest.mark.whole), 0.5])
@pytest.mark.parametrize("says_when", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_four_processes_use_an_unknown_limit_in_equal_shares(seed: int, says_when: bool, slowest: float) -> None:
    """At any starting rate, with at most one request to the server in two seconds."""
    world = played(World(Limited(lambda _: 50, says_when=says_when), Random(seed), slowest, 125), 90)
    assert len([at for at in world.provider.accepted if 20 <= at < 90]) > 0.9 * 50 * 70
    assert world.provider.share_refused < 0.02
    taken = [len([at for at in each.strategy.taken if 20 <= at < 90]) for each in world.processes]
    assert min(taken) > 0.8 * max(taken)
    assert max(process.api_calls for process in world.processes) / 90 <= 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_four_processes_share_a_limit_of_one_call_in_two_seconds(seed: int) -> None:
    """If four continued after a cooldown at once, three would be refused and wait longer each time."""
    world = played(World(Limited(lambda _: 0.5), Random(seed), 0.05, 20), 900)
    assert len(world.provider.accepted) > 0.7 * 0.5 * 900
    assert world.provider.share_refused < 0.12
    taken = [len(process.strategy.taken) for process in world.processes]
    assert min(taken) > 0.8 * max(taken)
    assert not world.failed


@pytest.mark.parametrize("seed", SEEDS)
def test_only_one_process_probes_a_provider_that_refuses_everything(seed: int) -> None:
    world = played(World(Limited(lambda at: 0.0 if 30 < at < 600 else 50.0), Random(seed), 0.05, 125), 1_200)
    assert len([at for at in world.provider.refused if 60 < at < 600]) <= 10
    assert [at for at in world.provider.accepted if at > 600]
    assert not world.failed
