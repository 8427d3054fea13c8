"""Several carriers of one run: each shard has one of them at a time, and one that is gone keeps none."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import fsspec  # pyright: ignore[reportMissingTypeStubs]  has none
import pytest

from batch_llm.jobs import ShardRef, hold
from batch_llm.jobs.ledger import claims, heartbeat
from batch_llm.jobs.ledger.claims import Claims, Runners, is_superseded
from batch_llm.jobs.ledger.heartbeat import Owner
from batch_llm.jobs.storage.store import Store

SHARDS = [ShardRef(n, n + 1, n + 1, 1, f"{n:05d}.jsonl", f"plan-{n:05d}") for n in range(6)]


@pytest.fixture(params=["local", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """What the ledger has of a run: on this machine, and where nothing of a process can be seen."""
    yield Store(str(tmp_path / "run") if request.param == "local" else "memory://claims/run")
    fsspec.filesystem("memory").store.clear()  # pyright: ignore[reportUnknownMemberType]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in seconds."""
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(heartbeat, "STALE_SECONDS", 0.5)


def _nobody(_: str) -> None:
    pass


def _elsewhere(run: Store, carrier: str) -> None:
    """A carrier on another machine: nothing but its count tells whether it lives."""
    far = replace(Owner.of_this_process(carrier), process="", machine="other-machine")
    far.write(run, f"carriers/{carrier}.json")


def test_each_shard_is_carried_once(run: Store) -> None:
    """However many carriers there are, and whoever is the fastest."""
    carried = Counter[str]()

    def carry(carrier: str) -> None:
        own = Claims(run, SHARDS, carrier)
        with Runners(run).join(carrier, lost=_nobody):
            while shard := own.next():
                carried[shard.part] += 1
                own.done(shard)

    with ThreadPoolExecutor() as pool:
        list(pool.map(carry, ["one", "two", "three"]))
    assert carried == {shard.part: 1 for shard in SHARDS}
    last = Claims(run, SHARDS, "late")
    assert last.next() is None
    assert last.open == []


def test_what_the_budget_has_no_room_for_is_left_to_others(run: Store) -> None:
    own = Claims(run, SHARDS, "poor")
    assert own.next(lambda _: False) is None
    assert own.next(lambda shard: shard.index == 3) == replace(SHARDS[3], claim=1)
    assert Claims(run, SHARDS, "other").next() == replace(SHARDS[0], claim=1)


def test_a_living_carrier_keeps_its_shard(run: Store) -> None:
    """Also one that takes its time, as long as it shows that it lives."""
    with Runners(run).join("slow", lost=_nobody):
        (mine, theirs) = (Claims(run, SHARDS[:1], "slow"), Claims(run, SHARDS[:1], "other"))
        held = mine.next()
        assert held is not None
        end = threading.Event()
        for _ in range(8):
            end.wait(0.1)
            assert theirs.next() is None
        assert not is_superseded(run, held)


def test_a_silent_carrier_loses_its_shard(run: Store) -> None:
    """It went without a word, as a machine does that is cut off; when it comes back it can see that."""
    _elsewhere(run, "far")
    far = Claims(run, SHARDS[:2], "far")
    held, other = far.next(), Claims(run, SHARDS[:2], "here")
    assert held is not None
    assert other.next() == replace(SHARDS[1], claim=1), "what nobody has comes first"
    assert other.next() is None, "it may live"
    threading.Event().wait(0.6)
    assert other.next() == replace(SHARDS[0], claim=2)
    assert is_superseded(run, held)
    assert not is_superseded(run, replace(held, claim=2))


def test_a_carrier_that_ends_gives_its_shard_back_at_once(run: Store) -> None:
    with Runners(run).join("drained", lost=_nobody):
        assert Claims(run, SHARDS[:1], "drained").next() is not None
    taken = Claims(run, SHARDS[:1], "next").next()
    assert taken is not None
    assert taken.claim == 2


def test_what_was_done_just_before_its_carrier_ended_is_not_claimed(
    run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by one that had looked before."""
    late = Claims(run, SHARDS[:1], "late")
    with Runners(run).join("quick", lost=_nobody):
        quick = Claims(run, SHARDS[:1], "quick")
        held = quick.next()
        late.refresh()
        assert held is not None
        quick.done(held)
    monkeypatch.setattr(late, "refresh", lambda: None)
    assert late.next() is None


def test_a_shard_that_brings_its_carriers_down_is_left(run: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would bring down all machines one after another."""
    monkeypatch.setattr(claims, "MOST_CLAIMS", 2)
    for carrier in ("first", "second"):
        with Runners(run).join(carrier, lost=_nobody):
            assert Claims(run, SHARDS[:1], carrier).next() is not None
    third = Claims(run, SHARDS[:1], "third")
    assert third.next() is None
    assert third.is_stuck()
    assert third.claimable() == []


def test_who_takes_a_ledger_over_waits_for_the_carriers_of_the_run_that_died(run: Store) -> None:
    """They see within seconds that their run is gone; until then they pay for answers."""
    dead = replace(Owner.of_this_process("run"), process="nobody sees it", pid=0)
    dead.write(run.parent, "lease/000000000001.json")

    def take_over() -> bool:
        with hold(run.parent, "next", waits_for=_nobody, lost=_nobody):
            return Runners(run).is_running("far")

    with ThreadPoolExecutor() as pool, ExitStack() as far:
        far.enter_context(Runners(run).join("far", lost=_nobody))
        taken = pool.submit(take_over)
        threading.Event().wait(1.5)
        assert not taken.done()
        far.close()
        assert taken.result() is False


def test_a_beat_that_does_not_get_through_is_known_to_the_carrier(run: Store, tmp_path: Path) -> None:
    """It has to stop before the others take its shards."""
    with Runners(run).join("cut-off", lost=_nobody) as beat:
        assert not beat.is_missed
        beat.ended.set()  # as a request that hangs
        threading.Event().wait(0.5)
        assert beat.is_missed
