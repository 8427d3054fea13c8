"""Pruning removes old runs and keeps every answer that is or may be in use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec  # pyright: ignore[reportMissingTypeStubs]  has none
import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob, job_store, merge, plan, run_folder
from batch_llm.jobs.ledger.heartbeat import Owner
from batch_llm.jobs.ledger.lease import newest_lease
from batch_llm.jobs.ledger.records import record_files
from batch_llm.jobs.results import prune as prune_module
from batch_llm.jobs.results.prune import Pruned, prune
from batch_llm.jobs.results.runs import find_runs
from batch_llm.jobs.storage.store import Store
from tests.support.jobs import age, answer, documents, job, leased_runs, prompts, run_job


@pytest.fixture(params=[".batch-llm", "memory://pruned"])
def ledger(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param
    fsspec.filesystem("memory").store.clear()  # pyright: ignore[reportUnknownMemberType]


def _prune(ledger: str = ".batch-llm") -> Pruned:
    return prune(Store(ledger), "batch", keep_days=30, waits_for=print)


def _three_runs(home: Path, made_for: BatchJob) -> None:
    """Make an old run, an older interrupted one, and a recent one that reuses their answers."""
    documents(home, a="1", b="2", gone="3")
    answer(made_for, plan(made_for, "oldest"), most=1)
    run_job(made_for, "old")
    documents(home, a="1", b="2 changed", c="4")
    run_job(made_for, "young")
    age(made_for, "oldest", 50)
    age(made_for, "old", 40)


@pytest.mark.sample(1)
def test_prune_keeps_every_answer_in_use(home: Path, ledger: str) -> None:
    """The next run calls nothing; answers that no later run used are removed; a second prune keeps the rest."""
    made_for = job(ledger=ledger)
    _three_runs(home, made_for)
    store = Store(ledger)
    looked = prune(store, "batch", keep_days=30, waits_for=print, dry_run=True)
    assert len(find_runs(store)) == 3
    done = _prune(ledger)
    assert looked == done
    assert (done.runs, done.kept_answers, done.dropped_answers) == (("old", "oldest"), 1, 2)
    assert [run.id for run in find_runs(store)] == ["young"]
    assert (plan(made_for, "next").reused, plan(made_for, "next").shards) == (3, ())
    age(made_for, "young", 40)
    run_job(made_for, "newest")
    again = _prune(ledger)
    assert (set(again.runs), again.kept_answers) == ({"young"}, 3)
    assert prompts(plan(made_for, "last")) == {}
    assert _prune(ledger).runs == ()
    assert prompts(plan(made_for, "last")) == {}, "a prune with nothing to remove removes nothing"


@pytest.mark.sample(1)
@pytest.mark.parametrize("step", ["_keep", "_remove_run"])
def test_a_prune_that_is_killed_loses_nothing(
    home: Path, ledger: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill at any step leaves each answer once or twice, and it counts once."""
    made_for = job(ledger=ledger)
    _three_runs(home, made_for)
    done = getattr(prune_module, step)

    def killed(*arguments: Any) -> None:
        done(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
        patched.setattr(prune_module, step, killed)
        _prune(ledger)
    made = plan(made_for, "next")
    assert (made.reused, made.shards) == (3, ())
    assert merge(made_for, made).total_items == 3
    _prune(ledger)
    assert plan(made_for, "next").reused == 3


def test_newest_finished_run_is_kept(home: Path) -> None:
    """At any age, so a job that pauses for a year pays for nothing again."""
    made_for = job()
    documents(home, a="1")
    run_job(made_for, "first")
    age(made_for, "first", 400)
    assert _prune().runs == ()
    assert len(record_files(job_store(made_for))) == 1


def test_newest_run_is_kept_if_the_clock_of_its_machine_was_behind(home: Path) -> None:
    """A run is not older than one with an earlier lease."""
    documents(home, a="1")
    leased_runs(job(refresh=True), first=10, second=400, third=300)
    assert _prune().runs == ()
    assert [run.id for run in find_runs(Store(".batch-llm"))] == ["third", "second", "first"]
    assert plan(job(), "next").reused == 1


@pytest.mark.sample(1)
def test_a_refresh_that_stopped_keeps_the_answers_it_did_not_replace(home: Path, ledger: str) -> None:
    """The next run without `refresh` reuses the old answers, as it would have without a prune."""
    made_for = job(ledger=ledger)
    documents(home, a="1", b="2", c="3")
    run_job(made_for, "old")
    run_job(job(ledger=ledger, refresh=True), "young", most=2, fail="b")
    age(made_for, "old", 40)
    assert (_prune(ledger).kept_answers, prompts(plan(made_for, "next"))) == (2, {})


def test_answers_that_a_dead_remote_run_may_use_are_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only that machine knows which answers these are, so all are kept."""
    made_for = job(ledger="memory://pruned")
    documents(home, a="1", b="2")
    run_job(made_for, "old")
    documents(home, b="2")
    run_job(made_for, "newest-ended")
    documents(home, a="1", b="2", c="3")
    plan(made_for, "died")
    age(made_for, "old", 50)
    age(made_for, "newest-ended", 40)
    with monkeypatch.context() as here:
        here.setenv("BATCH_LLM_HOME", str(home / "another-machine"))
        assert _prune("memory://pruned").runs == ("old",)
    assert prompts(plan(made_for, "died")) == {"c": "3"}
    fsspec.filesystem("memory").store.clear()  # pyright: ignore[reportUnknownMemberType]


@pytest.mark.sample(1)
@pytest.mark.parametrize("file", ["plan.json", "outcomes.parquet"])
def test_run_with_a_damaged_file_is_not_considered_old(home: Path, ledger: str, file: str) -> None:
    made_for = job(ledger=ledger)
    documents(home, a="1", b="2")
    run_job(made_for, "old")
    documents(home, a="1", b="2", c="3")
    run_job(made_for, "young")
    documents(home, a="1")
    run_job(made_for, "newest")
    age(made_for, "old", 40)
    job_store(made_for).folder("young").write(file, b"\0" * 64)
    assert _prune(ledger).runs == ("old",)
    documents(home, a="1", b="2", c="3")
    assert prompts(plan(made_for, "next")) == {}


@pytest.mark.sample(1)
def test_copies_of_a_run_killed_while_planning_are_removed(home: Path, ledger: str) -> None:
    """These are the largest files, and no listed run owns them."""
    made_for = job(ledger=ledger)
    documents(home, a="1")
    run_job(made_for, "first")
    plan(made_for, "killed")
    killed = run_folder(made_for, "killed")
    killed.items.with_suffix(".jsonl").write_text("half an it")
    for place in (killed.plan, killed.path / "source.jsonl"):
        place.unlink(missing_ok=True)
    killed.store.remove(["plan.json"])
    _prune(ledger)
    assert [path.name for path in killed.path.rglob("*") if path.is_file()] == []


def test_running_run_of_another_ledger_is_not_touched(home: Path) -> None:
    """It runs on this machine under the same name, and holds another lease."""
    documents(home, a="1")
    run_job(job(), "here")
    elsewhere = job(ledger="memory://pruned")
    made = plan(elsewhere, "there")
    answer(elsewhere, made)
    assert [run.id for run in find_runs(Store(".batch-llm"))] == ["here"]
    _prune()
    assert merge(elsewhere, made).succeeded == 1
    fsspec.filesystem("memory").store.clear()  # pyright: ignore[reportUnknownMemberType]


@pytest.mark.sample(1)
def test_a_prune_that_lost_its_lease_removes_nothing_more(
    home: Path, ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine was asleep; the run that holds the lease now may use answers that were unused before."""
    made_for = job(ledger=ledger)
    _three_runs(home, made_for)
    keep, store = prune_module._keep, job_store(made_for)  # pyright: ignore[reportPrivateUsage]  the moment to hit

    def slow(*arguments: Any) -> None:
        keep(*arguments)
        Owner.of_this_process("another").write(store, f"lease/{newest_lease(store) + 1:012d}.json")

    monkeypatch.setattr(prune_module, "_keep", slow)
    with pytest.raises(JobError, match=r"another run took over .* during the pruning"):
        _prune(ledger)
    assert len(find_runs(Store(ledger))) == 3


def test_prefix_of_a_run_id_is_not_a_job_name(home: Path) -> None:
    documents(home, a="1")
    run_job(job(), "1963ea7d")
    with pytest.raises(JobError, match=r"'1963' is the beginning of a run id, not a job name"):
        prune(Store(".batch-llm"), "1963", keep_days=30, waits_for=print)
    assert not (home / ".batch-llm" / "1963").exists()
