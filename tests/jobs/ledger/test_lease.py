"""The lease of a ledger: one run at a time holds it, and a dead run does not block others."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path

import fsspec  # pyright: ignore[reportMissingTypeStubs]  has none
import pytest

from batch_llm.jobs import hold_lease
from batch_llm.jobs.ledger import heartbeat, lease
from batch_llm.jobs.ledger.heartbeat import Owner
from batch_llm.jobs.ledger.lease import newest_lease
from batch_llm.jobs.storage.store import Store


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Return the ledger of a job, local or in a remote store where processes are not visible."""
    yield Store(str(tmp_path) if request.param == "local" else "memory://leases/job")
    fsspec.filesystem("memory").store.clear()  # pyright: ignore[reportUnknownMemberType]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the intervals to fractions of a second."""
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(heartbeat, "STALE_SECONDS", 1.0)
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.02)


def _nobody(_: str) -> None:
    pass


def _acquire_lease(
    store: Store, run: str, waits_for: Callable[[str], None] = _nobody, lost: Callable[[str], None] = _nobody
) -> AbstractContextManager[int]:
    return hold_lease(store, run, waits_for=waits_for, lost=lost)


@pytest.mark.shell
def test_second_run_waits_for_the_first_and_reports_it(store: Store) -> None:
    """Also with more than two runs, one runs at a time."""
    running: list[str] = []
    most: list[int] = []
    messages: list[str] = []

    def work(run: str) -> None:
        with _acquire_lease(store, run, messages.append):
            running.append(run)
            most.append(len(running))
            threading.Event().wait(0.1)  # the work
            running.remove(run)

    with ThreadPoolExecutor() as pool:
        list(pool.map(work, ["one", "two", "three"]))
    assert most == [1, 1, 1]
    assert len(messages) >= 2
    assert all("process" in line and "since" in line for line in messages)


def test_created_file_is_never_incomplete(tmp_path: Path) -> None:
    """An incomplete claim of a killed process would block its shard forever."""
    made, data = Store(str(tmp_path)), bytes(2_000_000)
    with ThreadPoolExecutor(1) as pool:
        for number in range(50):
            creating = pool.submit(made.create, f"{number}.json", data)
            while (seen := made.read(f"{number}.json")) is None:
                pass
            assert len(seen) == len(data)
            assert creating.result()
    assert len(list(tmp_path.iterdir())) == 50


@pytest.mark.shell
def test_one_of_several_concurrent_creations_of_a_file_succeeds(tmp_path: Path) -> None:
    """Leases and claims depend on this."""
    made, together = Store(str(tmp_path)), threading.Barrier(8)

    def create(_: int) -> list[bool]:
        together.wait()
        return [made.create(f"{number}.json", b"{}") for number in range(50)]

    with ThreadPoolExecutor(8) as pool:
        succeeded = list(zip(*pool.map(create, range(8)), strict=True))
    assert [sum(each) for each in succeeded] == [1] * 50


def test_released_lease_is_available_at_once(store: Store) -> None:
    with _acquire_lease(store, "one") as first:
        pass
    messages: list[str] = []
    with _acquire_lease(store, "two", messages.append) as second:
        assert second == first + 1
        assert store.names(lease.LEASES) == [f"lease/{second:012d}.json"], "earlier ones are cleared away"
    assert messages == []


def die_with_a_lease(place: str) -> None:
    ExitStack().enter_context(_acquire_lease(Store(place), "dead"))
    multiprocessing.current_process().kill()


@pytest.mark.shell
def test_lease_of_a_killed_process_is_available_at_once(tmp_path: Path) -> None:
    """On the same machine its death is visible, so nobody waits a minute for a heartbeat."""
    command = f"from tests.jobs.ledger.test_lease import die_with_a_lease; die_with_a_lease({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", command], check=False)
    store, messages = Store(str(tmp_path)), list[str]()
    assert newest_lease(store) == 1
    with _acquire_lease(store, "next", messages.append) as number:
        assert number == 2
    assert messages == []


def test_remote_lease_expires_without_heartbeats(store: Store) -> None:
    """The process of another machine is not visible: only its heartbeats are."""
    elsewhere = replace(Owner.of_this_process("far"), process="", machine="other-machine")
    elsewhere.write(store, "lease/000000000001.json")
    messages: list[str] = []
    with _acquire_lease(store, "next", messages.append) as number:
        assert number == 2
    (line,) = messages
    assert "run far" in line
    assert "other-machine" in line


def test_owner_that_slept_too_long_is_notified_of_the_lost_lease(store: Store) -> None:
    """After the laptop was asleep another run has the ledger, so this one must stop."""
    lost = threading.Event()

    def on_lost(_: str) -> None:
        lost.set()

    with _acquire_lease(store, "sleeper", lost=on_lost) as number:
        assert store.create(f"lease/{number + 1:012d}.json", b"{}")
        assert lost.wait(5)
    assert newest_lease(store) == number + 1, "the lease of another run is not released"


def test_lease_file_without_content_is_read_again(store: Store) -> None:
    """The file was created, and its content is not written yet."""
    store.create("lease/000000000001.json", b"")
    with _acquire_lease(store, "next") as number:
        assert number == 2
