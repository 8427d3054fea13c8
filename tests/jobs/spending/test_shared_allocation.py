"""One budget for several runners that share only a store: together they never exceed it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fsspec  # pyright: ignore[reportMissingTypeStubs]  has none
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.errors import JobError
from batch_llm.jobs import (
    BudgetShare,
    BudgetStatus,
    JournaledAllocator,
    ShardOutcome,
    ShardRef,
    Spent,
    plan,
    run_folder,
)
from batch_llm.jobs.ledger import heartbeat
from batch_llm.jobs.ledger.records import LedgerWriter, Record
from batch_llm.jobs.storage.store import Store
from tests.support.jobs import job, write_lines
from tests.support.selection import examples

BUDGET = 100.0
RUNNERS = 3


class _Crowded(Store):
    """Store in which another runner may write between a runner's last read and its entry."""

    meanwhile: Callable[[], bool] | None = None

    def create(self, name: str, data: bytes) -> bool:
        act, self.meanwhile = self.meanwhile, None
        if act is not None:
            act()
        return super().create(name, data)


@contextmanager
def _journal(kind: str) -> Generator[str]:
    if kind == "local":
        with TemporaryDirectory() as folder:
            yield folder
    else:
        yield f"memory://budgets/{uuid.uuid4().hex}"
        fsspec.filesystem("memory").store.clear()  # pyright: ignore[reportUnknownMemberType]


@dataclass
class _Site:
    """Runners of shards with some calls each, all at the same price, that may die at any moment."""

    place: str
    calls: list[int]
    price: int
    claims: dict[int, int] = field(default_factory=dict[int, int])
    spent: dict[int, float] = field(default_factory=dict[int, float])
    done: set[int] = field(default_factory=set[int])
    stores: list[_Crowded] = field(default_factory=list[_Crowded])

    def __post_init__(self) -> None:
        self.stores = [_Crowded(self.place) for _ in range(RUNNERS)]
        limits = [BudgetStatus("budget_usd", "run", "usd", BUDGET, 0.0)]
        self.budgets = [JournaledAllocator(limits, 1.0, store) for store in self.stores]
        self.running: list[tuple[ShardRef, BudgetShare] | None] = [None] * RUNNERS
        self.claimed: list[list[ShardRef]] = [[] for _ in range(RUNNERS)]
        self.free = [ShardRef(index, 1, count, count, "", "") for index, count in enumerate(self.calls)]
        self.dead = set[int]()

    def act(self, runner: int, draw: float) -> bool:
        """Let a runner do its next step, and return whether there was one."""
        if runner in self.dead:
            return False
        return self._end(runner, draw) if self.running[runner] else self._take(runner)

    def _take(self, runner: int) -> bool:
        budget = self.budgets[runner]
        budget.read()
        if self._take_claimed(runner):
            return True
        shard = next(filter(budget.fits, self.free), None)
        if shard is None:
            return False
        self.free.remove(shard)
        self.claims[shard.index] = claim = self.claims.get(shard.index, 0) + 1
        self.claimed[runner].append(replace(shard, claim=claim))
        return self._take_claimed(runner)

    def _take_claimed(self, runner: int) -> bool:
        for shard in self.claimed[runner]:
            if share := self.budgets[runner].share(shard, [shard, *self.free][:RUNNERS]):
                self.claimed[runner].remove(shard)
                self.running[runner] = shard, share
                return True
        return False

    def _pay(self, shard: ShardRef, share: BudgetShare, most: float) -> None:
        assert share.usd is not None
        before = self.spent.get(shard.index, 0.0)
        left = self.calls[shard.index] - before / self.price
        self.spent[shard.index] = before + min((share.usd - before) // self.price, left, most) * self.price

    def _end(self, runner: int, draw: float) -> bool:
        held = self.running[runner]
        assert held is not None
        shard, share = held
        if draw < 0.1 and len(self.dead) < RUNNERS - 1:
            return self._die(runner, draw)
        self._pay(shard, share, float("inf"))
        left = self.calls[shard.index] - self.spent[shard.index] / self.price
        self.budgets[runner].release(shard, _outcome(shard, self.spent[shard.index], self.price if left else None))
        self.running[runner] = None
        if left:
            self.claimed[runner].append(shard)
        else:
            self.done.add(shard.index)
        return True

    def _die(self, runner: int, draw: float) -> bool:
        held = self.running[runner]
        assert held is not None
        self._pay(*held, draw * 30)
        self.dead.add(runner)
        self.free += [held[0], *self.claimed[runner]]
        return True

    def come_back(self, runner: int) -> None:
        """Let a runner that was considered dead report its shard, which another one has claimed."""
        held = self.running[runner]
        if runner in self.dead and held and self.claims[held[0].index] > held[0].claim:
            self.budgets[runner].release(held[0], _outcome(held[0], self.spent[held[0].index], None))

    def may_be_spent(self) -> float:
        """Return the amount that is spent plus the amount that the shares of runners still allow."""
        most = dict(self.spent)
        for held in self.running:
            if held is not None:
                shard, share = held
                assert share.usd is not None
                if self.claims[shard.index] == shard.claim:
                    most[shard.index] = share.usd
        return sum(most.values())


def _outcome(shard: ShardRef, usd: float, wanting: float | None) -> ShardOutcome:
    left = 1 if wanting else 0
    return ShardOutcome(
        shard.index, shard.items, 0, 0, left, 0, 0, usd, 1.0, wanting=Spent(usd=wanting) if wanting else None
    )


@pytest.mark.parametrize("kind", ["local", "memory"])
@examples(100)
@given(
    calls=st.lists(st.integers(1, 12), min_size=1, max_size=8),
    price=st.integers(1, 9),
    draws=st.lists(st.tuples(st.integers(0, RUNNERS - 1), st.integers(0, RUNNERS - 1), st.floats(0, 1)), max_size=60),
)
def test_processes_never_exceed_the_budget_and_use_all_of_it(
    kind: str, calls: list[int], price: int, draws: list[tuple[int, int, float]]
) -> None:
    """Processes may start and die at any time, and write between another one's read and its entry."""
    with _journal(kind) as place:
        site = _Site(place, calls, price)
        for runner, other, draw in draws:
            site.stores[runner].meanwhile = partial(site.act, other, draw) if other != runner else None
            site.act(runner, draw)
            site.come_back(other)
            site.stores[runner].meanwhile = None
            assert site.may_be_spent() <= BUDGET + 1e-6
        while sum(site.act(runner, 1.0) for runner in range(RUNNERS)):
            assert site.may_be_spent() <= BUDGET + 1e-6
        total = sum(site.spent.values())
        assert len(site.done) == len(calls) or BUDGET - total < price
        assert total <= BUDGET
        living = next(runner for runner in range(RUNNERS) if runner not in site.dead)
        assert site.budgets[living].tightest.spent == pytest.approx(total)


def test_concurrent_processes_never_exceed_the_budget(tmp_path: Path) -> None:
    """Each thread requests shares until none is left."""
    shards = [ShardRef(index, 1, 10, 10, "", "", claim=1) for index in range(40)]
    start = threading.Barrier(8)

    def request_shares(number: int) -> list[float]:
        budget = JournaledAllocator([BudgetStatus("budget_usd", "run", "usd", BUDGET, 0.0)], 1.0, Store(str(tmp_path)))
        start.wait()
        return [
            share.usd or 0.0 for shard in shards[number::8] if (share := budget.share(shard, shards[number::8][:2]))
        ]

    with ThreadPoolExecutor(8) as pool:
        held = sum(sum(shares) for shares in pool.map(request_shares, range(8)))
    assert held <= BUDGET
    assert held > BUDGET * 0.99


def _two(place: str) -> tuple[JournaledAllocator, JournaledAllocator]:
    limits = [BudgetStatus("budget_usd", "run", "usd", BUDGET, 0.0)]
    return JournaledAllocator(limits, 1.0, Store(place)), JournaledAllocator(limits, 1.0, Store(place))


def test_process_that_claims_the_shard_of_a_dead_one_gets_its_share(tmp_path: Path) -> None:
    """Also if nothing else is left; a late report of the dead process changes nothing."""
    far, here = _two(str(tmp_path))
    shard = ShardRef(0, 1, 10, 10, "", "", claim=1)
    again = replace(shard, claim=2)
    held = far.share(shard, [shard])
    assert held is not None
    assert held.usd == BUDGET
    here.read()
    other = ShardRef(1, 11, 20, 10, "", "", claim=1)
    assert (here.fits(again), here.fits(other)) == (True, False)
    inherited = here.share(again, [again])
    assert inherited is not None
    assert inherited.usd == BUDGET
    far.release(shard, _outcome(shard, 1.0, None))
    assert far.share(shard, [shard]) is None
    assert here.share(other, [other]) is None, "the share is still held"
    here.release(again, _outcome(again, 30.0, None))
    rest = far.share(other, [other])
    assert rest is not None
    assert rest.usd == 70.0


def test_shard_finished_by_a_process_that_died_needs_no_budget(tmp_path: Path) -> None:
    """Otherwise a run that answered all items for exactly its budget would end as incomplete."""
    far, here = _two(str(tmp_path))
    shard = ShardRef(0, 1, 10, 10, "", "", claim=1)
    assert far.share(shard, [shard])
    far.release(shard, _outcome(shard, BUDGET, None))
    here.read()
    assert here.fits(shard)
    assert not here.fits(ShardRef(1, 11, 20, 10, "", ""))
    again = replace(shard, claim=2)
    share = here.share(again, [again])
    assert share is not None
    assert share.usd == BUDGET
    here.release(again, _outcome(again, BUDGET, 1.0))
    assert here.share(again, [again]) is None, "the shard has unanswered items"


def test_an_entry_that_stays_damaged_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then another process may be writing the entry."""
    monkeypatch.setattr(heartbeat, "STALE_SECONDS", 0.2)
    budget, _ = _two(str(tmp_path))
    (tmp_path / "000001.json").write_bytes(b'{"index"')
    shard = ShardRef(0, 1, 10, 10, "", "", claim=1)
    with pytest.raises(OSError, match="is being written"):
        budget.share(shard, [shard])
    threading.Event().wait(0.3)
    with pytest.raises(JobError, match=r"000001.json is damaged: run again to continue"):
        budget.share(shard, [shard])


def test_process_that_joins_later_does_not_count_spending_twice(home: Path) -> None:
    """The ledger's records of earlier runs count once, those of this run's shards by the journal alone."""
    write_lines(home / "docs.jsonl", {"id": "a", "text": "x"})
    made_for = job(budget_tokens=100, monthly_budget_usd=10, prices={"input_mtok": 1, "output_mtok": 1})
    planned = plan(made_for, "r", strategy="s")
    run = run_folder(made_for, "r")
    usage: dict[str, Any] = {"status": "failed", "cost_usd": 2.0, "input_tokens": 30, "output_tokens": 5}

    def spend() -> None:
        with LedgerWriter(run.store, planned.shards[0].part) as ledger:
            ledger.append(Record(id="a", key="k", **usage))

    spend()
    first = JournaledAllocator.of(made_for, run, planned)
    spend()
    late = JournaledAllocator.of(made_for, run, planned)
    for budget in (first, late):
        spent = {limit.setting: limit.spent for limit in budget.status(Spent())}
        assert spent == {"budget_tokens": 35.0, "monthly_budget_usd": 2.0}
    again = plan(made_for, "r", strategy="s")
    spent = {limit.setting: limit.spent for limit in JournaledAllocator.of(made_for, run, again).status(Spent())}
    assert spent == {"budget_tokens": 70.0, "monthly_budget_usd": 4.0}


def test_without_a_budget_nothing_is_written(home: Path) -> None:
    write_lines(home / "docs.jsonl", {"id": "a", "text": "x"})
    planned = plan(job(), "r", strategy="s")
    budget = JournaledAllocator.of(job(), run_folder(job(), "r"), planned)
    shard = replace(planned.shards[0], claim=1)
    share = budget.share(shard, [shard])
    assert share is not None
    assert not share.is_bounded
    assert budget.fits(shard)
    budget.release(shard, _outcome(shard, 1.0, None))
    assert not (Path(planned.folder) / "budget").exists()
