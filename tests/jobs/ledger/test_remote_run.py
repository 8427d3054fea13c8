"""Shards on a machine that did not plan them: all input and all output goes through the ledger."""

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
from batch_llm.jobs import BatchJob, Plan, hold_lease, job_store, merge, plan, read_progress, request_stop, run_shard
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
    """Strategy that answers at once, or after `release` is set."""

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
    """Shorten the intervals to fractions of a second."""
    monkeypatch.setattr(shard_watch, "FAR_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(shard_watch, "LOOK_SECONDS", 0.05)


@pytest.fixture(params=["memory", "shared folder"])
def planned(request: pytest.FixtureRequest, home: Path) -> Iterator[tuple[BatchJob, Plan]]:
    """Return a planned run of a job with one worker, whose ledger other machines can reach."""
    place = "memory://ledgers" if request.param == "memory" else str(home / "shared")
    made_for = job(ledger=place, shard_size=3, config={"max_workers": 1, "retry": {"max_attempts": 1}})
    documents(home, **{name: name for name in "abcdef"})
    made = plan(made_for, RUN, strategy="Upper")
    send_shards(open_folder(made_for, made.folder))
    yield made_for, made
    fsspec.filesystem("memory").store.clear()  # pyright: ignore[reportUnknownMemberType]


async def _until(probe: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not probe():  # noqa: ASYNC110  another thread or a file changes it
            await asyncio.sleep(0.01)


@pytest.mark.sample(1)
async def test_shard_runs_on_a_machine_without_files_of_the_run(planned: tuple[BatchJob, Plan]) -> None:
    """Items are read from the ledger, answers and progress are written to it, and no file stays on the machine."""
    made_for, made = planned
    strategy = Upper()
    with remote_run_folder(made_for, RUN) as remote_folder:
        assert remote_folder.path != Path(made.folder)
        outcome = await run_shard(made_for, str(remote_folder.path), made.shards[1], strategy=lambda: strategy)
    assert outcome.succeeded == 3
    assert not remote_folder.path.exists()
    assert strategy.calls == {"d": 1, "e": 1, "f": 1}
    fetch_progress(open_folder(made_for, made.folder), made.shards)
    assert (read_progress(made.folder).succeeded, read_progress(made.folder).shards_done) == (3, 1)
    await run_shard(made_for, made.folder, made.shards[0], strategy=lambda: strategy)
    assert merge(made_for, made).succeeded == 6
    stored = job_store(made_for).folder(RUN)
    if stored.local is None:
        assert not stored.names("shards/*") + stored.names("progress/*")


@pytest.mark.sample(2)
@pytest.mark.parametrize("kind", ["asked", "fatal", "budget"])
async def test_stop_request_reaches_another_machine(planned: tuple[BatchJob, Plan], kind: StopKind) -> None:
    """The call in flight completes, and no other starts."""
    made_for, made = planned
    strategy = Upper(released=False)
    with remote_run_folder(made_for, RUN) as remote_folder:
        running = asyncio.create_task(
            run_shard(made_for, str(remote_folder.path), made.shards[0], strategy=lambda: strategy),
        )
        await _until(lambda: strategy.calls["a"])
        request_stop(made.folder, "enough", kind=kind)
        exchange_stop(open_folder(made_for, made.folder))
        await _until(remote_folder.stop.exists)
        strategy.release.set()
        outcome = await running
    assert (outcome.succeeded, outcome.not_attempted, outcome.stopped) == (1, 2, True)
    assert json.loads(remote_folder.store.read("stop") or b"")["kind"] == kind


@pytest.mark.sample(1)
def test_draining_one_machine_stops_no_other(planned: tuple[BatchJob, Plan]) -> None:
    """Draining one machine stops no other; a fatal error there does, also from a temporary folder."""
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
    assert not here.stop.exists(), "planning the run again clears the request"


@pytest.mark.sample(1)
@pytest.mark.parametrize("taken", ["the ledger", "the shard"])
async def test_superseded_machine_makes_no_further_calls(
    planned: tuple[BatchJob, Plan], taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that was disconnected or suspended checks its claim before the next call."""
    monkeypatch.setattr(shard_watch, "FAR_LOOK_SECONDS", 100.0)
    monkeypatch.setattr(shard_watch, "LATE_SECONDS", 0.2)
    made_for, made = planned
    strategy = Upper(released=False)
    with (
        remote_run_folder(made_for, RUN) as remote_folder,
        hold_lease(job_store(made_for), RUN, waits_for=print, lost=print) as lease,
    ):
        claimed = Claims(remote_folder.store, made.shards, "cut-off").next()
        assert claimed is not None
        shard = replace(claimed, lease=lease)
        running = asyncio.create_task(run_shard(made_for, str(remote_folder.path), shard, strategy=lambda: strategy))
        await _until(lambda: strategy.calls["a"])
        if taken == "the shard":
            remote_folder.store.create(f"claims/{shard.part}.{shard.claim + 1:06d}.json", b"{}")
        else:
            job_store(made_for).create(f"lease/{lease + 1:012d}.json", b"{}")
        await asyncio.sleep(0.3)
        strategy.release.set()
        outcome = await running
    assert strategy.calls == {"a": 1}
    assert (outcome.succeeded, outcome.not_attempted) == (1, 2)


def test_local_ledger_on_another_machine_is_reported_in_one_line(home: Path) -> None:
    """The default ledger is a local folder, which other machines cannot reach."""
    with (
        pytest.raises(JobError, match=r"has no plan: use a ledger that all machines can reach"),
        remote_run_folder(job(), RUN),
    ):
        pass
