"""Who may read the prompts and the answers in a ledger."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batch_llm.jobs import merge, plan
from batch_llm.jobs.planning.inline_items import with_items
from tests.support.jobs import answer, documents, job, night


@pytest.fixture(params=[0o000, 0o002, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """A umask of the process, as long as a test runs."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def _modes(folder: Path) -> tuple[set[int], set[int]]:
    """The modes of the folders and of the files in a folder, the folder's own included."""
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
def test_a_ledger_is_open_for_its_owner_alone(home: Path) -> None:
    """Whatever the umask, from the plan to the end."""
    assert list(_run(home)) == [({0o700}, {0o600})] * 3


@pytest.mark.usefixtures("umask")
def test_a_ledger_may_be_shared_with_a_group(home: Path) -> None:
    """All folders pass their group on, and nobody else has access."""
    assert list(_run(home, ledger_access="group")) == [({0o2770}, {0o660})] * 3


@pytest.mark.shell
def test_the_output_has_the_modes_of_the_umask(home: Path) -> None:
    """It is not a part of the ledger."""
    before = os.umask(0o022)
    try:
        list(_run(home))
    finally:
        os.umask(before)
    assert (home / "out.jsonl").stat().st_mode & 0o777 == 0o644


def test_rows_of_the_caller_are_as_private_as_the_ledger(home: Path) -> None:
    """They are in the folder of the run."""
    with_items(job(), [{"id": 1, "text": "one"}], "first")
    assert _modes(home / ".batch-llm") == ({0o700}, {0o600})


def _open_ledger(home: Path, folders: int, files: int) -> Path:
    """A ledger with a run, and with the modes of an earlier version."""
    documents(home, a="one")
    night(job(), "first")
    for path in [ledger := home / ".batch-llm", *ledger.rglob("*")]:
        path.chmod(folders if path.is_dir() else files)
    return ledger / "batch"


def test_a_ledger_of_an_earlier_version_is_closed(home: Path) -> None:
    """Its answers are reused, and others do not get into the folder of the job."""
    folder = _open_ledger(home, 0o755, 0o644)
    assert night(job(), "second").reused == 1
    assert folder.stat().st_mode & 0o777 == 0o700
    assert _modes(folder / "second") == ({0o700}, {0o600})


def test_a_ledger_that_a_group_writes_to_stays_shared(home: Path) -> None:
    """As an earlier version, with the umask 002, shared one; others have no access any more."""
    folder = _open_ledger(home, 0o775, 0o664)
    assert night(job(), "second").reused == 1
    assert folder.stat().st_mode & 0o777 == 0o770
    assert _modes(folder / "second") == ({0o2770}, {0o660})


def test_a_ledger_of_one_owner_can_be_shared_later(home: Path) -> None:
    """With all runs that are in it."""
    documents(home, a="one")
    night(job(), "first")
    assert night(job(ledger_access="group"), "second").reused == 1
    assert _modes(home / ".batch-llm" / "batch") == ({0o2770}, {0o660})
    assert (home / ".batch-llm").stat().st_mode & 0o050 == 0o050


def test_who_has_access_says_nothing_of_an_answer(home: Path) -> None:
    """A change of it calls no item again."""
    documents(home, a="one")
    night(job(ledger_access="group"), "first")
    assert plan(job(), "second").reused == 1
