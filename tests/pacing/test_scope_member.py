"""Processes share the limit of a scope through a server that answers late or not at all, in virtual time."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm import Governor, Limits
from batch_llm.pacing.adaptive_rate import RateCurve
from batch_llm.pacing.fair_share import ALIVE_SECONDS, MemberReport, Pause, PublishedReport, share_out
from batch_llm.pacing.pacer import CallPermit
from batch_llm.pacing.scope_member import ROUNDS, ScopeMember
from tests.support.selection import examples

SHARE_RATE = 50.0
SETTLED_SECONDS = 60.0


class World:
    """A server and processes, each with a clock of its own; `run` moves from event to event."""

    def __init__(self, seed: int = 0, slowest: float = 0.0, lost: float = 0.0) -> None:
        self.now = 0.0
        self.records: dict[str, PublishedReport] = {}
        self.processes: list[Process] = []
        self.random, self.slowest, self.lost = Random(seed), slowest, lost
        self.calls = 0
        self.most = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, time: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (time, next(self._order), do))

    def start(self, time: float, demand: float) -> Process:
        process = Process(self, f"p{len(self.processes)}", demand)
        self.processes.append(process)
        self.at(time, lambda: self._step(process, process.live()))
        return process

    def _step(self, process: Process, life: Generator[float]) -> None:
        if not process.is_dead and (wait := next(life, None)) is not None:
            self.at(self.now + wait, lambda: self._step(process, life))
        self.most = max(self.most, self.shared())

    def run(self, until: float) -> None:
        while self._queue and self._queue[0][0] <= until:
            self.now, _, do = heapq.heappop(self._queue)
            do()
        self.now = until

    def shared(self) -> float:
        """Return the sum of the shares of processes that the others consider alive, now and at their last read."""
        return sum(each.member.share for each in self.processes if not (each.is_dead or each.is_dead_to_others()))


@dataclass
class Process:
    """Process that makes `demand` calls per second if its governor allows, and exchanges reports with the others."""

    world: World
    name: str
    demand: float
    is_dead: bool = False
    is_away: bool = False
    was_dead: bool = False
    skew: float = 0.0
    member: ScopeMember = field(init=False)
    governor: Governor = field(init=False)

    def __post_init__(self) -> None:
        self.governor = Governor(Limits(requests_per_minute=60 * SHARE_RATE))
        self.skew = self.world.random.uniform(0, 1e5)
        self.member = ScopeMember(self.name, self.governor.scope, self.clock)
        self._used_until = self.clock

    @property
    def clock(self) -> float:
        return self.world.now + self.skew

    def is_dead_to_others(self) -> bool:
        record = self.world.records.get(self.name)
        return self.was_dead or record is None or record.written_at < self.world.now - ALIVE_SECONDS

    def live(self) -> Generator[float]:
        while True:
            self._use()
            yield from self._cycle()
            yield self.member.cycle_seconds

    def _cycle(self) -> Generator[float]:
        self.member.sample_usage(self.clock)
        for _ in range(ROUNDS):
            if not (yield from self._write()):
                return
            yield from self._wait()
            records = list(self.world.records.values())
            yield from self._wait()
            if self._fails():
                return
            self.was_dead = False
            if not self.member.on_reports(records, self.clock):
                return

    def _write(self) -> Generator[float, None, bool]:
        report, sent = self.member.report(self.clock), self.clock
        yield from self._wait()
        if self._fails():
            return False
        self.was_dead = self.is_dead_to_others()
        born = record.created_at if (record := self.world.records.get(self.name)) else self.world.now
        self.world.records[self.name] = PublishedReport(self.name, born, self.world.now, report)
        yield from self._wait()
        if self._fails():  # the report is written, but the reply is lost
            return False
        self.member.on_written(sent, self.clock)
        return True

    def _wait(self) -> Generator[float]:
        yield self.world.random.uniform(0, self.world.slowest)

    def _fails(self) -> bool:
        self.world.calls += 1
        return self.is_away or self.world.random.random() < self.world.lost

    def _use(self) -> None:
        """Make the allowed calls since the last cycle."""
        turn, at, wanted = CallPermit(10), self._used_until, self.demand * (self.clock - self._used_until)
        for number in range(int(wanted)):
            at = max(at, self._used_until + number / self.demand)
            while at < self.clock and (start := self.governor.reserve(at, turn)) > at:
                at = start
        self._used_until = self.clock


def shares(world: World) -> list[float]:
    return [process.member.share for process in world.processes if not process.is_dead]


WANTS = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(WANTS)
def test_each_process_gets_the_largest_share_or_all_that_it_wants(wants: list[float]) -> None:
    found = share_out({str(number): want for number, want in enumerate(wants)})
    assert sum(found.values()) == pytest.approx(1)
    for number, want in enumerate(wants):
        assert found[str(number)] >= min(want, max(found.values())) - 1e-9


@given(
    joins=st.lists(st.tuples(st.floats(0, 20), st.sampled_from([1.0, 10.0, 200.0])), min_size=1, max_size=5),
    deaths=st.lists(st.integers(0, 4), max_size=2),
    seed=st.integers(0, 999),
    slowest=st.sampled_from([0.01, 0.5, 3.0]),
    lost=st.sampled_from([0.0, 0.1, 0.5]),
)
@examples(60)
def test_shares_never_exceed_the_limit_and_every_process_gets_one(
    joins: list[tuple[float, float]], deaths: list[int], seed: int, slowest: float, lost: float
) -> None:
    """With late and lost reports too; after those arrive, processes that need more get equal shares of the rest."""
    world = World(seed, slowest, lost)
    for at, demand in joins:
        world.start(at, demand)
    world.run(30)
    for number in deaths:
        world.processes[number % len(joins)].is_dead = True
    world.run(60)
    world.lost, world.slowest = 0.0, 0.1
    world.run(60 + SETTLED_SECONDS)
    assert world.most <= 1 + 1e-9
    living = [process for process in world.processes if not process.is_dead]
    assert all(process.member.share > 0.01 for process in living)
    if greedy := [process.member.share for process in living if process.demand > SHARE_RATE]:
        assert sum(shares(world)) > 0.9
        assert max(greedy) - min(greedy) < 0.06
        assert min(greedy) > max(shares(world)) - 0.06


def test_single_process_gets_the_whole_limit_at_once_and_a_second_one_waits() -> None:
    world = World(slowest=0.01)
    world.start(0, 200)
    world.run(0.1)
    assert shares(world) == [1]
    world.start(8, 200)
    world.run(8.1)
    assert shares(world) == [1, 0]
    world.run(18)
    assert shares(world) == [0.5, 0.5]


def test_share_of_a_dead_process_is_used_again_within_half_a_minute() -> None:
    world = World(slowest=0.05)
    for _ in range(4):
        world.start(world.random.uniform(0, 3), 200)
    world.run(40)
    assert shares(world) == [0.25] * 4
    world.processes[2].is_dead = True
    world.run(40 + 25)
    assert shares(world) == [pytest.approx(1 / 3)] * 3


def test_unused_share_is_given_to_the_others() -> None:
    world = World(slowest=0.01)
    for at, demand in enumerate((200, 10, 200)):
        world.start(at, demand)
    world.run(60)
    assert shares(world) == [pytest.approx(each, abs=0.06) for each in (0.35, 0.3, 0.35)]


def test_process_without_the_server_keeps_its_share_and_reduces_it_afterwards() -> None:
    world = World(slowest=0.01)
    first, second = world.start(0, 200), world.start(1, 200)
    world.run(30)
    first.is_away = True
    world.run(60)
    assert (first.member.share, second.member.share) == (0.5, 1)
    first.is_away = False
    world.run(80)
    assert (first.member.share, second.member.share) == (0.5, 0.5)


def test_each_process_makes_at_most_one_api_call_in_two_seconds() -> None:
    world = World(slowest=0.01)
    for demand in (200, 200, 30, 5):
        world.start(world.random.uniform(0, 3), demand)
    world.run(30)
    before = world.calls
    world.run(330)
    # A write's request and its reply may each be lost, so that they count as two here.
    assert (world.calls - before) * 2 / 3 / 4 / 300 <= 0.5


def report_of(began: float, until: float, rate: float = 50.0, heard: float = 0.0) -> MemberReport:
    return MemberReport(want=1, claim=0.5, rate=rate, busy=True, began=began, until=until, heard=heard)


def test_report_has_the_field_names_that_other_versions_read() -> None:
    governor = Governor()
    curve = RateCurve(8.0, 10.0, 0.2, 24.0, 3.0)
    governor.scope.follow(curve, 0.0)
    member = ScopeMember("me", governor.scope, 0.0)
    member.sample_usage(1.0)
    report = member.report(1.0)
    assert report.curve == governor.scope.curve
    assert report.curve.drop_ratio == 0.2
    fields = report.model_dump()
    assert [fields[name] for name in ("top", "drop", "way", "grown")] == [10.0, 0.2, 24.0, 3.0]


def member_among(governor: Governor, other: MemberReport, born: float = 900.0) -> ScopeMember:
    """Return a member that has read the report `other`, at 1 s of its own clock and 1001 s of the server's."""
    member = ScopeMember("me", governor.scope, 0.0)
    member.sample_usage(1.0)
    mine = member.report(1.0)
    member.on_written(1.0, 1.0)
    member.on_reports([PublishedReport("me", 1000.0, 1001.0, mine), PublishedReport("other", born, 1000.5, other)], 1.0)
    return member


def test_cooldown_of_another_process_lasts_until_its_end_on_the_servers_clock() -> None:
    governor = Governor(Limits(requests_per_minute=3000))
    member = member_among(governor, report_of(0, 0))
    member.on_pause(Pause("other", 1002.0, 1009.0, RateCurve(40.0)), 2.1)
    assert governor.scope.sample_usage(2.1).paused_until == pytest.approx(9)
    assert governor.scope.sample_usage(2.1).curve.rate == 40
    member.on_pause(Pause("other", 1002.0, 1009.0, RateCurve(40.0)), 2.2)
    member.on_pause(Pause("third", 1002.1, 1009.5, RateCurve(30.0)), 2.3)
    assert governor.scope.sample_usage(2.3).curve.rate == 40
    assert governor.scope.sample_usage(2.3).paused_until == pytest.approx(9.5)


def test_reports_from_before_a_process_joined_are_ignored() -> None:
    governor = Governor(Limits(requests_per_minute=3000))
    member_among(governor, report_of(began=700.0, until=705.0))
    assert governor.scope.sample_usage(1.0).paused_until == -math.inf
    assert governor.scope.sample_usage(1.0).curve.rate == 50


def test_rate_of_the_oldest_process_is_adopted_unless_it_is_older_than_a_refusal() -> None:
    governor = Governor()
    member = member_among(governor, report_of(0, 0, rate=33.0))
    assert governor.scope.sample_usage(1.0).curve.rate == 33
    pause = member.on_rate_limit(5.0, 2.0)
    assert pause == Pause("me", 1002.0, 1005.0, governor.scope.curve, episodes=0)
    governor.scope.pause_for_others(5.0, 2.0, RateCurve(30.0))
    cut = governor.scope.sample_usage(2.0).curve.rate

    def read(other: MemberReport) -> float:
        member.sample_usage(6.0)
        mine = PublishedReport("me", 1000.0, 1006.0, member.report(6.0))
        member.on_written(6.0, 6.0)
        member.on_reports([mine, PublishedReport("other", 900.0, 1005.5, other)], 6.0)
        return governor.scope.sample_usage(6.0).curve.rate

    assert read(report_of(0, 0, rate=33.0)) == cut < 33
    assert read(report_of(0, 0, rate=20.0, heard=1002.0)) == 20


def test_oldest_process_that_makes_calls_determines_the_rate() -> None:
    governor = Governor()
    member_among(governor, report_of(0, 0, rate=33.0), born=1000.5)
    assert governor.scope.sample_usage(1.0).curve.rate == 33  # nobody knows yet whether we call
    elder = Governor()
    member = ScopeMember("me", elder.scope, 0.0)
    elder.reserve(0.5, CallPermit(1))
    member.sample_usage(1.0)
    mine = PublishedReport("me", 1000.0, 1001.0, member.report(1.0))
    member.on_written(1.0, 1.0)
    member.on_reports([mine, PublishedReport("other", 1000.5, 1001.0, report_of(0, 0, rate=33.0))], 1.0)
    assert elder.scope.sample_usage(1.0).curve.rate == 10
