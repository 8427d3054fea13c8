"""A shard on a machine that has not planned it: all that it needs, and all that it tells, goes through the ledger."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import fsspec  # pyright: ignore[reportMissingTypeStubs]  has none
import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob, Plan, hold, job_store, merge, plan, read_progress, request_stop, run_shard
from batch_llm.jobs.execution import shard_watch
from batch_llm.jobs.ledger.claims import Claims
from batch_llm.jobs.ledger.remote_run import (
    exchange_stop,
    fetch_progress,
    local_run_folder,
    remote_run_folder,
    send_shards,
)
from batch_llm.jobs.ledger.run_folder import StopKind, open_folder
from batch_llm.strategies.base import LLMCallStrategy
from tests.support.jobs import documents, job

RUN = "r"


class Upper(LLMCallStrategy[str]):
    """Answers at once, or when it is released."""

    def __init__(self, *, released: bool = True) -> None:
        self.calls = Counter[str]()
        self.release = asyncio.Event()
        if released:
            self.release.set()

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        self.calls[prompt] += 1
        await self.release.wait()
        return prompt.upper(), {"input_tokens": 3, "output_tokens": 2}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in less time."""
    monkeypatch.setattr(shard_watch, "FAR_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(shard_watch, "LOOK_SECONDS", 0.05)


@pytest.fixture(params=["memory", "shared folder"])
def planned(request: pytest.FixtureRequest, home: Path) -> Iterator[tuple[BatchJob, Plan]]:
    """A run that is planned here, with its ledger where others reach it; a job of one worker."""
    place = "memory://ledgers" if request.param == "memory" else str(home / "shared")
    made_for = job(ledger=place, shard_size=3, config={"max_workers": 1, "retry": {"max_attempts": 1}})
    documents(home, **{name: name for name in "abcdef"})
    made = plan(made_for, RUN, strategy="Upper")
    send_shards(made_for, made.folder)
    yield made_for, made
    fsspec.filesystem("memory").store.clear()  # pyright: ignore[reportUnknownMemberType]


async def _until(probe: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not probe():  # noqa: ASYNC110  what another thread or a file tells
            await asyncio.sleep(0.01)


async def test_a_shard_runs_where_nothing_of_the_run_is(planned: tuple[BatchJob, Plan]) -> None:
    """Its items come from the ledger, its answers and its progress go there, and nothing stays on the machine."""
    made_for, made = planned
    strategy = Upper()
    with remote_run_folder(made_for, RUN) as away:
        assert away.path != Path(made.folder)
        outcome = await run_shard(made_for, str(away.path), made.shards[1], strategy=lambda: strategy)
    assert outcome.succeeded == 3
    assert not away.path.exists()
    assert strategy.calls == {"d": 1, "e": 1, "f": 1}
    fetch_progress(open_folder(made_for, made.folder), made.shards)
    assert (read_progress(made.folder).succeeded, read_progress(made.folder).shards_done) == (3, 1)
    await run_shard(made_for, made.folder, made.shards[0], strategy=lambda: strategy)
    assert merge(made_for, made).succeeded == 6
    kept = job_store(made_for).folder(RUN)
    if kept.local is None:
        assert not kept.names("shards/*") + kept.names("progress/*")


@pytest.mark.parametrize("kind", ["asked", "fatal", "budget"])
async def test_a_request_to_stop_gets_there(planned: tuple[BatchJob, Plan], kind: StopKind) -> None:
    """The call in flight ends; no other starts."""
    made_for, made = planned
    strategy = Upper(released=False)
    with remote_run_folder(made_for, RUN) as away:
        running = asyncio.create_task(
            run_shard(made_for, str(away.path), made.shards[0], strategy=lambda: strategy),
        )
        await _until(lambda: strategy.calls["a"])
        request_stop(made.folder, "enough", kind=kind)
        exchange_stop(open_folder(made_for, made.folder))
        await _until(away.stop.exists)
        strategy.release.set()
        outcome = await running
    assert (outcome.succeeded, outcome.not_attempted, outcome.stopped) == (1, 2, True)
    assert json.loads(away.store.read("stop") or b"")["kind"] == kind


def test_what_ends_one_machine_ends_no_other(planned: tuple[BatchJob, Plan]) -> None:
    """A machine that is drained keeps that to itself; what is fatal there is told, also from a folder that goes."""
    made_for, made = planned
    here = open_folder(made_for, made.folder)
    with remote_run_folder(made_for, RUN) as drained:
        request_stop(drained.path, "SIGTERM", here=True)
    exchange_stop(here)
    assert not here.stop.exists()
    with local_run_folder(made_for, f"/nowhere/{RUN}") as folder:
        request_stop(folder, "no key", kind="fatal")
    exchange_stop(here)
    assert json.loads(here.stop.read_text())["reason"] == "no key"
    assert plan(made_for, RUN, strategy="Upper").total == 6
    exchange_stop(here)
    assert not here.stop.exists(), "a run that goes on has forgotten it"


@pytest.mark.parametrize("taken", ["the ledger", "the shard"])
async def test_what_another_one_has_taken_is_not_paid_twice(
    planned: tuple[BatchJob, Plan], taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that was cut off, or stood still, is back: it looks before it calls any further."""
    monkeypatch.setattr(shard_watch, "FAR_LOOK_SECONDS", 100.0)
    monkeypatch.setattr(shard_watch, "LATE_SECONDS", 0.2)
    made_for, made = planned
    strategy = Upper(released=False)
    with remote_run_folder(made_for, RUN) as away, hold(job_store(made_for), RUN, waits_for=print, lost=print) as lease:
        claimed = Claims(away.store, made.shards, "cut-off").next()
        assert claimed is not None
        shard = replace(claimed, lease=lease)
        running = asyncio.create_task(run_shard(made_for, str(away.path), shard, strategy=lambda: strategy))
        await _until(lambda: strategy.calls["a"])
        if taken == "the shard":
            away.store.create(f"claims/{shard.part}.{shard.claim + 1:06d}.json", b"{}")
        else:
            job_store(made_for).create(f"lease/{lease + 1:012d}.json", b"{}")
        await asyncio.sleep(0.3)
        strategy.release.set()
        outcome = await running
    assert strategy.calls == {"a": 1}
    assert (outcome.succeeded, outcome.not_attempted) == (1, 2)


def test_a_ledger_that_only_one_machine_has_is_one_line(home: Path) -> None:
    """The default of a ledger is a folder of the machine's own."""
    with (
        pytest.raises(JobError, match=r"has no plan: use a ledger that all machines can reach"),
        remote_run_folder(job(), RUN),
    ):
        pass
