"""One run at a time works on a ledger; a dead one keeps nobody waiting."""

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

from batch_llm.jobs import hold
from batch_llm.jobs.ledger import heartbeat, lease
from batch_llm.jobs.ledger.heartbeat import Owner
from batch_llm.jobs.ledger.lease import newest_lease
from batch_llm.jobs.storage.store import Store


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """The ledger of a job: on this machine, and where nothing of a process can be seen."""
    yield Store(str(tmp_path) if request.param == "local" else "memory://leases/job")
    fsspec.filesystem("memory").store.clear()  # pyright: ignore[reportUnknownMemberType]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in seconds."""
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(heartbeat, "STALE_SECONDS", 1.0)
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.02)


def _nobody(_: str) -> None:
    pass


def _hold(
    store: Store, run: str, waits_for: Callable[[str], None] = _nobody, lost: Callable[[str], None] = _nobody
) -> AbstractContextManager[int]:
    return hold(store, run, waits_for=waits_for, lost=lost)


@pytest.mark.shell
def test_the_second_waits_for_the_first_and_says_so(store: Store) -> None:
    """However many they are, one at a time."""
    at_work: list[str] = []
    most: list[int] = []
    told: list[str] = []

    def work(run: str) -> None:
        with _hold(store, run, told.append):
            at_work.append(run)
            most.append(len(at_work))
            threading.Event().wait(0.1)  # the work
            at_work.remove(run)

    with ThreadPoolExecutor() as pool:
        list(pool.map(work, ["one", "two", "three"]))
    assert most == [1, 1, 1]
    assert len(told) >= 2
    assert all("process" in line and "since" in line for line in told)


def test_a_file_that_is_created_is_there_as_a_whole(tmp_path: Path) -> None:
    """Half a claim, of a process that was killed, would keep its shard from everybody for ever."""
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
def test_of_several_who_create_a_file_at_once_one_succeeds(tmp_path: Path) -> None:
    """All that is promised of leases and claims hangs on it."""
    made, together = Store(str(tmp_path)), threading.Barrier(8)

    def create(_: int) -> list[bool]:
        together.wait()
        return [made.create(f"{number}.json", b"{}") for number in range(50)]

    with ThreadPoolExecutor(8) as pool:
        succeeded = list(zip(*pool.map(create, range(8)), strict=True))
    assert [sum(each) for each in succeeded] == [1] * 50


def test_a_lease_that_was_given_back_is_had_at_once(store: Store) -> None:
    with _hold(store, "one") as first:
        pass
    told: list[str] = []
    with _hold(store, "two", told.append) as second:
        assert second == first + 1
        assert store.names(lease.LEASES) == [f"lease/{second:012d}.json"], "earlier ones are cleared away"
    assert told == []


def die_with_a_lease(place: str) -> None:
    ExitStack().enter_context(_hold(Store(place), "dead"))
    multiprocessing.current_process().kill()


@pytest.mark.shell
def test_a_killed_process_keeps_nobody_waiting(tmp_path: Path) -> None:
    """On the same machine, its death is seen: nobody waits a minute for a sign of life."""
    command = f"from tests.jobs.ledger.test_lease import die_with_a_lease; die_with_a_lease({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", command], check=False)
    store, told = Store(str(tmp_path)), list[str]()
    assert newest_lease(store) == 1
    with _hold(store, "next", told.append) as number:
        assert number == 2
    assert told == []


def test_silence_ends_a_lease_that_is_out_of_sight(store: Store) -> None:
    """Another machine's: nothing but its count tells whether it lives."""
    elsewhere = replace(Owner.of_this_process("far"), process="", machine="other-machine")
    elsewhere.write(store, "lease/000000000001.json")
    told: list[str] = []
    with _hold(store, "next", told.append) as number:
        assert number == 2
    (line,) = told
    assert "run far" in line
    assert "other-machine" in line


def test_a_holder_that_slept_too_long_is_told(store: Store) -> None:
    """A laptop that was shut: another run has the ledger, so this one must stop."""
    lost = threading.Event()

    def told(_: str) -> None:
        lost.set()

    with _hold(store, "sleeper", lost=told) as number:
        assert store.create(f"lease/{number + 1:012d}.json", b"{}")
        assert lost.wait(5)
    assert newest_lease(store) == number + 1, "what is not ours is not given back"


def test_a_file_that_is_not_written_yet_is_waited_for(store: Store) -> None:
    """Between its creation and its content."""
    store.create("lease/000000000001.json", b"")
    with _hold(store, "next") as number:
        assert number == 2
