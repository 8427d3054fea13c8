"""File modes of a ledger, which decide who may read prompts and answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batch_llm.jobs import merge, plan
from batch_llm.jobs.planning.inline_items import with_items
from tests.support.jobs import answer, documents, job, run_job


@pytest.fixture(params=[0o000, 0o002, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Set the umask of the process for one test."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def _modes(folder: Path) -> tuple[set[int], set[int]]:
    """Return the modes of a folder and its subfolders, and the modes of the files in it."""
    found = [folder, *folder.rglob("*")]
    modes = [(path.is_dir(), path.stat().st_mode & 0o7777) for path in found]
    return {mode for is_folder, mode in modes if is_folder}, {mode for is_folder, mode in modes if not is_folder}


def _run(home: Path, **settings: Any) -> Iterator[tuple[set[int], set[int]]]:
    """Plan, answer and merge a run; yield the modes in the ledger after each step."""
    documents(home, a="one", b="two")
    made_for = job(**settings)
    made = plan(made_for, "first")
    yield _modes(home / ".batch-llm")
    answer(made_for, made)
    yield _modes(home / ".batch-llm")
    merge(made_for, made)
    yield _modes(home / ".batch-llm")


@pytest.mark.shell
@pytest.mark.usefixtures("umask")
def test_ledger_is_accessible_to_its_owner_only(home: Path) -> None:
    """With any umask, in every step of a run."""
    assert list(_run(home)) == [({0o700}, {0o600})] * 3


@pytest.mark.usefixtures("umask")
def test_ledger_can_be_shared_with_a_group(home: Path) -> None:
    """All folders have the setgid bit, and others have no access."""
    assert list(_run(home, ledger_access="group")) == [({0o2770}, {0o660})] * 3


@pytest.mark.shell
def test_modes_of_the_output_follow_the_umask(home: Path) -> None:
    """The output does not belong to the ledger."""
    before = os.umask(0o022)
    try:
        list(_run(home))
    finally:
        os.umask(before)
    assert (home / "out.jsonl").stat().st_mode & 0o777 == 0o644


def test_rows_of_the_caller_are_as_private_as_the_ledger(home: Path) -> None:
    """Rows that the caller passes are stored in the folder of the run."""
    with_items(job(), [{"id": 1, "text": "one"}], "first")
    assert _modes(home / ".batch-llm") == ({0o700}, {0o600})


def _open_ledger(home: Path, folders: int, files: int) -> Path:
    """Make a ledger with a run and with the modes of an earlier version."""
    documents(home, a="one")
    run_job(job(), "first")
    for path in [ledger := home / ".batch-llm", *ledger.rglob("*")]:
        path.chmod(folders if path.is_dir() else files)
    return ledger / "batch"


def test_ledger_of_an_earlier_version_becomes_private(home: Path) -> None:
    """Its answers are reused, and others have no access to the folder of the job."""
    folder = _open_ledger(home, 0o755, 0o644)
    assert run_job(job(), "second").reused == 1
    assert folder.stat().st_mode & 0o777 == 0o700
    assert _modes(folder / "second") == ({0o700}, {0o600})


def test_group_writable_ledger_of_an_earlier_version_stays_shared(home: Path) -> None:
    """An earlier version shared it under the umask 002; others lose their access."""
    folder = _open_ledger(home, 0o775, 0o664)
    assert run_job(job(), "second").reused == 1
    assert folder.stat().st_mode & 0o777 == 0o770
    assert _modes(folder / "second") == ({0o2770}, {0o660})


def test_private_ledger_can_be_shared_later(home: Path) -> None:
    """The modes of its earlier runs change, too."""
    documents(home, a="one")
    run_job(job(), "first")
    assert run_job(job(ledger_access="group"), "second").reused == 1
    assert _modes(home / ".batch-llm" / "batch") == ({0o2770}, {0o660})
    assert (home / ".batch-llm").stat().st_mode & 0o050 == 0o050


def test_ledger_access_does_not_change_the_keys_of_answers(home: Path) -> None:
    """A change of it calls no item again."""
    documents(home, a="one")
    run_job(job(ledger_access="group"), "first")
    assert plan(job(), "second").reused == 1
