"""Seconds and memory of what a night costs beside its calls: the plan against a full ledger, and the merge.

    python -m tests.benchmarks.nights

takes some minutes and 3 GB of disk, `--items 2000 --no-bounds` some seconds, `--items 10000000` half an hour and 40 GB:
what is allowed grows with the items in time, and not in memory. The first night answers every item without
a call; the second finds 1 in 1,000 changed. Each step has a process of its own. Memory is the resident set, on Linux.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from batch_llm.jobs import BatchJob, Plan, merge, plan
from batch_llm.jobs.ledger.records import LedgerWriter, Record
from batch_llm.jobs.storage.json_files import read_lines
from batch_llm.jobs.storage.store import Store

from .fresh import fresh
from .memory import forget_peak, peak_bytes
from .report import Bound, judge, show

T = TypeVar("T")
MEGABYTE = 1_000_000
A_MILLION_SECONDS, MOST_MB = 60.0, 1_000.0
CHANGED = 1_000
"""One document in so many is another one on the second night."""

TEXT = "The quick brown fox jumps over the lazy dog. " * 10


@dataclass(frozen=True, slots=True)
class Step:
    """What a step took: seconds, and the process's largest resident megabytes."""

    seconds: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Night:
    """What a night took, and how many items it had to call."""

    plan: Step
    merge: Step
    called: int


def job_in(folder: Path) -> BatchJob:
    """The job of every night."""
    settings = {"source": folder / "docs.jsonl", "output": folder / "out.jsonl", "ledger": folder / "ledger"}
    return BatchJob.parse({name: str(path) for name, path in settings.items()} | {"prompt": "Summarize: {text}"})


def write_source(folder: Path, items: int, *, changed: bool) -> None:
    """Write the documents of a night."""
    with (folder / "docs.jsonl").open("w") as file:
        for number in range(items):
            version = 2 if changed and number % CHANGED == 0 else 1
            file.write(json.dumps({"id": f"doc-{number}", "text": f"{number} v{version} {TEXT}"}) + "\n")


def answer(made: Plan) -> None:
    """Write what running the shards would, without a call."""
    for shard in made.shards:
        with LedgerWriter(Store(made.folder), shard.part) as ledger:
            ledger.append(
                *(
                    Record(item["id"], item["key"], "succeeded", output={"answer": TEXT}, attempts=1)
                    for item in read_lines(Path(shard.path))
                )
            )


def spend(night: str, folder: Path) -> Night:
    """Have a night in this process."""
    job = job_in(folder)
    planned, made = _clocked(lambda: plan(job, night, strategy="none"))
    answer(made)
    merged, _ = _clocked(lambda: merge(job, made))
    return Night(planned, merged, sum(shard.items for shard in made.shards))


def _clocked(step: Callable[[], T]) -> tuple[Step, T]:
    forget_peak()
    started = time.perf_counter()
    result = step()
    return Step(time.perf_counter() - started, peak_bytes() / MEGABYTE), result


def bounds(nights: dict[str, Night], items: int) -> list[Bound]:
    """What was promised of a night."""
    found: list[Bound] = []
    most = _seconds(items)
    for name, night in nights.items():
        for what, step in {"plan": night.plan, "merge": night.merge}.items():
            promise = f"{name} night, {what}: under {most:g} s and {MOST_MB:,g} MB"
            figure = f"{step.seconds:.1f} s, {step.peak_mb:,.0f} MB"
            found.append(Bound(promise, figure, step.seconds < most and step.peak_mb < MOST_MB))
    return found


def main() -> int:
    """Have both nights, print the table and the bounds, return the exit code."""
    parser = argparse.ArgumentParser(description="Measure what a night costs beside its calls.")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--no-bounds", action="store_true", help="judge nothing")
    parser.add_argument("--here", type=Path, help="one night in this process and this folder, printed as JSON")
    parser.add_argument("--night", default="first", help="which one")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(asdict(spend(options.night, options.here))))
        return 0
    nights = _both_nights(options.items)
    rows = [
        [name, f"{night.called:,}", *(f"{figure:,.1f}" for step in (night.plan, night.merge) for figure in _pair(step))]
        for name, night in nights.items()
    ]
    columns = ["night", "called", "plan, s", "plan, MB", "merge, s", "merge, MB"]
    show("A night beside its calls", columns, [rows], f"{options.items:,} items of {len(TEXT)} characters.")
    return 0 if options.no_bounds else judge(bounds(nights, options.items))


def _seconds(items: int) -> float:
    return A_MILLION_SECONDS * max(1.0, items / 1_000_000)


def _pair(step: Step) -> tuple[float, float]:
    return step.seconds, step.peak_mb


def _both_nights(items: int) -> dict[str, Night]:
    nights: dict[str, Night] = {}
    with tempfile.TemporaryDirectory(prefix="batch-llm-nights-") as name, Console(stderr=True).status("") as status:
        folder = Path(name)
        for night in ("first", "second"):
            status.update(f"{night} night: {items:,} items")
            write_source(folder, items, changed=night == "second")
            options = ("--here", folder, "--night", night)
            found = fresh("tests.benchmarks.nights", *options, timeout_seconds=15 * _seconds(items))
            nights[night] = Night(Step(**found["plan"]), Step(**found["merge"]), found["called"])
    return nights


if __name__ == "__main__":
    raise SystemExit(main())
