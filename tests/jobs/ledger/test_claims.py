"""Claims of shards by several runners of one run: each shard has one runner at a time, and a dead one has none."""

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

from batch_llm.jobs import ShardRef, hold_lease
from batch_llm.jobs.ledger import claims, heartbeat
from batch_llm.jobs.ledger.claims import Claims, RunnerRegistry, is_superseded
from batch_llm.jobs.ledger.heartbeat import Owner
from batch_llm.jobs.storage.store import Store

SHARDS = [ShardRef(n, n + 1, n + 1, 1, f"{n:05d}.jsonl", f"plan-{n:05d}") for n in range(6)]


@pytest.fixture(params=["local", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Return the folder of a run, local or in a remote store where processes are not visible."""
    yield Store(str(tmp_path / "run") if request.param == "local" else "memory://claims/run")
    fsspec.filesystem("memory").store.clear()  # pyright: ignore[reportUnknownMemberType]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the intervals to fractions of a second."""
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(heartbeat, "STALE_SECONDS", 0.5)


def _nobody(_: str) -> None:
    pass


def _join_as_remote_runner(run: Store, runner: str) -> None:
    """Act as a runner on another machine, whose process is not visible: only its heartbeats are."""
    far = replace(Owner.of_this_process(runner), process="", machine="other-machine")
    far.write(run, f"carriers/{runner}.json")


def test_each_shard_is_run_once(run: Store) -> None:
    """With several concurrent runners."""
    times_run = Counter[str]()

    def run_shards(runner: str) -> None:
        own = Claims(run, SHARDS, runner)
        with RunnerRegistry(run).join(runner, lost=_nobody):
            while shard := own.next():
                times_run[shard.part] += 1
                own.done(shard)

    with ThreadPoolExecutor() as pool:
        list(pool.map(run_shards, ["one", "two", "three"]))
    assert times_run == {shard.part: 1 for shard in SHARDS}
    last = Claims(run, SHARDS, "late")
    assert last.next() is None
    assert last.open == []


def test_shard_that_exceeds_the_budget_is_left_to_others(run: Store) -> None:
    own = Claims(run, SHARDS, "poor")
    assert own.next(lambda _: False) is None
    assert own.next(lambda shard: shard.index == 3) == replace(SHARDS[3], claim=1)
    assert Claims(run, SHARDS, "other").next() == replace(SHARDS[0], claim=1)


def test_living_runner_keeps_its_shard(run: Store) -> None:
    """A slow runner keeps its shard as long as it sends heartbeats."""
    with RunnerRegistry(run).join("slow", lost=_nobody):
        (mine, theirs) = (Claims(run, SHARDS[:1], "slow"), Claims(run, SHARDS[:1], "other"))
        held = mine.next()
        assert held is not None
        end = threading.Event()
        for _ in range(8):
            end.wait(0.1)
            assert theirs.next() is None
        assert not is_superseded(run, held)


def test_silent_runner_loses_its_shard(run: Store) -> None:
    """A runner without heartbeats, as on a disconnected machine, loses its shard and can see that later."""
    _join_as_remote_runner(run, "far")
    far = Claims(run, SHARDS[:2], "far")
    held, other = far.next(), Claims(run, SHARDS[:2], "here")
    assert held is not None
    assert other.next() == replace(SHARDS[1], claim=1), "an unclaimed shard comes first"
    assert other.next() is None, "the other runner may be alive"
    threading.Event().wait(0.6)
    assert other.next() == replace(SHARDS[0], claim=2)
    assert is_superseded(run, held)
    assert not is_superseded(run, replace(held, claim=2))


def test_runner_that_ends_releases_its_shard_at_once(run: Store) -> None:
    with RunnerRegistry(run).join("drained", lost=_nobody):
        assert Claims(run, SHARDS[:1], "drained").next() is not None
    taken = Claims(run, SHARDS[:1], "next").next()
    assert taken is not None
    assert taken.claim == 2


def test_completed_shard_is_not_claimed_after_its_runner_ended(run: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if a runner has read the claims before."""
    late = Claims(run, SHARDS[:1], "late")
    with RunnerRegistry(run).join("quick", lost=_nobody):
        quick = Claims(run, SHARDS[:1], "quick")
        held = quick.next()
        late.refresh()
        assert held is not None
        quick.done(held)
    monkeypatch.setattr(late, "refresh", lambda: None)
    assert late.next() is None


def test_shard_that_crashes_its_runners_is_abandoned(run: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the shard would crash all machines one after another."""
    monkeypatch.setattr(claims, "MOST_CLAIMS", 2)
    for runner in ("first", "second"):
        with RunnerRegistry(run).join(runner, lost=_nobody):
            assert Claims(run, SHARDS[:1], runner).next() is not None
    third = Claims(run, SHARDS[:1], "third")
    assert third.next() is None
    assert third.is_stuck()
    assert third.claimable() == []


def test_takeover_of_a_ledger_waits_for_runners_of_the_dead_run(run: Store) -> None:
    """Runners notice within seconds that their run ended; until then they pay for answers."""
    dead = replace(Owner.of_this_process("run"), process="nobody sees it", pid=0)
    dead.write(run.parent, "lease/000000000001.json")

    def take_over() -> bool:
        with hold_lease(run.parent, "next", waits_for=_nobody, lost=_nobody):
            return RunnerRegistry(run).is_running("far")

    with ThreadPoolExecutor() as pool, ExitStack() as far:
        far.enter_context(RunnerRegistry(run).join("far", lost=_nobody))
        taken = pool.submit(take_over)
        threading.Event().wait(1.5)
        assert not taken.done()
        far.close()
        assert taken.result() is False


def test_runner_notices_a_heartbeat_that_fails(run: Store, tmp_path: Path) -> None:
    """The runner must stop before others claim its shards."""
    with RunnerRegistry(run).join("cut-off", lost=_nobody) as membership:
        assert not membership.is_missed
        membership.ended.set()  # like a request that hangs
        threading.Event().wait(0.5)
        assert membership.is_missed
