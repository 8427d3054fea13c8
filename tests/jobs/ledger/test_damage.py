"""A ledger on a disk that is full, read-only or loses writes: intact records count, and the rest is called again."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob, Plan, job_store, merge, plan, run_shard
from batch_llm.jobs.ledger.records import record_files
from batch_llm.strategies.base import LLMCallStrategy
from tests.support.jobs import job, read_lines, write_lines

ITEMS = 40


class Answers(LLMCallStrategy[str]):
    """Strategy with long answers that counts calls by prompt."""

    def __init__(self) -> None:
        self.calls = Counter[str]()

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        self.calls[prompt] += 1
        await asyncio.sleep(0.001)
        return f"{prompt} {'x' * 8000}", {"input_tokens": 1, "output_tokens": 1}


async def _answer(made_for: BatchJob, made: Plan) -> Counter[str]:
    strategy = Answers()
    for shard in made.shards:
        await run_shard(made_for, made.folder, shard, strategy=lambda: strategy)
    return strategy.calls


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Return a function that mounts a small disk, with the given mount options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mounted(options: str) -> Path:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True, check=False
        )
        if done.returncode and not place.is_mount():
            pytest.skip(f"a disk of its own needs root: {done.stderr.strip()}")
        assert not done.returncode, done.stderr
        return place

    yield mounted
    subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)


def _job(home: Path, **settings: object) -> BatchJob:
    write_lines(home / "docs.jsonl", *({"id": f"d{number}", "text": f"d{number}"} for number in range(ITEMS)))
    return job(config={"max_workers": 4, "retry": {"max_attempts": 1}}, **settings)


async def test_full_disk_loses_at_most_the_calls_in_flight(home: Path, disk: Callable[..., Path]) -> None:
    """The error is one line with a fix; with free space, the same run calls only the missing items."""
    made_for = _job(home, ledger=str(disk("size=200k")))
    made = plan(made_for, "first", strategy="Answers")
    strategy = Answers()
    with pytest.raises(JobError, match=r"the ledger cannot be written to .*: No space left on device; free disk space"):
        await run_shard(made_for, made.folder, made.shards[0], strategy=lambda: strategy)
    first = strategy.calls
    assert first.total() < ITEMS
    disk("remount,size=20m")
    again = plan(made_for, "first", strategy="Answers")
    assert again.answered >= first.total() - 4, "at most the answers that workers were about to write"
    second = await _answer(made_for, again)
    assert second.total() == ITEMS - again.answered
    assert merge(made_for, again).succeeded == ITEMS


async def test_read_only_disk_is_reported_in_one_line(home: Path, disk: Callable[..., Path]) -> None:
    """The error is raised before the first call."""
    made_for = _job(home, ledger=str(disk("size=1m")))
    disk("remount,ro,size=1m")
    with pytest.raises(JobError, match=r"^ledger .* cannot be written: Read-only file system$"):
        plan(made_for, "first", strategy="Answers")


def _torn(content: bytes) -> bytes:
    return content[:-20]


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _zeros(content: bytes) -> bytes:
    return bytes(len(content))


def _zeros_at_the_end(content: bytes) -> bytes:
    half = len(content) // 2
    return content[:half] + bytes(len(content) - half)


def _garbage_in_the_middle(content: bytes) -> bytes:
    third = len(content) // 3
    return content[:third] + b"\xff\x00{{\n" + content[third:]


@pytest.mark.sample(2)
@pytest.mark.parametrize("damage", [_torn, _cut, _zeros, _zeros_at_the_end, _garbage_in_the_middle])
async def test_only_items_with_lost_records_are_called_again(home: Path, damage: Callable[[bytes], bytes]) -> None:
    """Every intact line counts; every other item is called once more, and the output is complete."""
    made_for = _job(home)
    await _answer(made_for, plan(made_for, "first", strategy="Answers"))
    store = job_store(made_for)
    (name,) = record_files(store)
    content = damage(store.read(name) or b"")
    (Path(store.address) / name).write_bytes(content)
    whole = sum(1 for line in content.split(b"\n") if line.startswith(b'{"id"') and line.endswith(b"}"))
    made = plan(made_for, "second", strategy="Answers")
    assert made.reused == whole
    calls = await _answer(made_for, made)
    assert (len(calls), calls.total()) == (ITEMS - whole, ITEMS - whole)
    rows = read_lines(merge(made_for, made).output)
    assert [row["answer"].split()[0] for row in rows] == [row["text"] for row in rows]
    assert len(rows) == ITEMS
