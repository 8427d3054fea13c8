"""Measure time and memory of a first and a second run without calls: the plan against a full ledger, and the merge.

    python -m tests.benchmarks.second_run

takes some minutes and 3 GB of disk, `--items 2000 --no-bounds` some seconds, `--items 10000000` half an hour and 40 GB:
the allowed time grows with the items, the allowed memory does not. The first run answers every item without
a call; the second finds 1 in 1,000 changed. Each run has its own process. Memory is the resident set, on Linux.
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
"""One document in this many is changed for the second run."""

TEXT = "The quick brown fox jumps over the lazy dog. " * 10


@dataclass(frozen=True, slots=True)
class Step:
    """Seconds of a step, and the largest resident set of the process in MB."""

    seconds: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class RunCost:
    """Measurements of a run, and the number of items that it called."""

    plan: Step
    merge: Step
    called: int


def job_in(folder: Path) -> BatchJob:
    """Return the job of both runs."""
    settings = {"source": folder / "docs.jsonl", "output": folder / "out.jsonl", "ledger": folder / "ledger"}
    return BatchJob.parse({name: str(path) for name, path in settings.items()} | {"prompt": "Summarize: {text}"})


def write_source(folder: Path, items: int, *, changed: bool) -> None:
    """Write the documents of a run."""
    with (folder / "docs.jsonl").open("w") as file:
        for number in range(items):
            version = 2 if changed and number % CHANGED == 0 else 1
            file.write(json.dumps({"id": f"doc-{number}", "text": f"{number} v{version} {TEXT}"}) + "\n")


def answer(made: Plan) -> None:
    """Write the records that running the shards would write, without a call."""
    for shard in made.shards:
        with LedgerWriter(Store(made.folder), shard.part) as ledger:
            ledger.append(
                *(
                    Record(item["id"], item["key"], "succeeded", output={"answer": TEXT}, attempts=1)
                    for item in read_lines(Path(shard.path))
                )
            )


def measure_run(which: str, folder: Path) -> RunCost:
    """Plan, answer and merge a run in this process."""
    job = job_in(folder)
    planned, made = _clocked(lambda: plan(job, which, strategy="none"))
    answer(made)
    merged, _ = _clocked(lambda: merge(job, made))
    return RunCost(planned, merged, sum(shard.items for shard in made.shards))


def _clocked(step: Callable[[], T]) -> tuple[Step, T]:
    forget_peak()
    started = time.perf_counter()
    result = step()
    return Step(time.perf_counter() - started, peak_bytes() / MEGABYTE), result


def bounds(costs: dict[str, RunCost], items: int) -> list[Bound]:
    """Return the bounds for both runs."""
    found: list[Bound] = []
    most = _seconds(items)
    for name, cost in costs.items():
        for what, step in {"plan": cost.plan, "merge": cost.merge}.items():
            promise = f"{name} run, {what}: under {most:g} s and {MOST_MB:,g} MB"
            figure = f"{step.seconds:.1f} s, {step.peak_mb:,.0f} MB"
            found.append(Bound(promise, figure, step.seconds < most and step.peak_mb < MOST_MB))
    return found


def main() -> int:
    """Measure both runs, print the table and the bounds, return the exit code."""
    parser = argparse.ArgumentParser(description="Measure time and memory of a first and a second run without calls.")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--no-bounds", action="store_true", help="judge nothing")
    parser.add_argument("--here", type=Path, help="measure one run in this process and this folder, and print JSON")
    parser.add_argument("--run", default="first", help="first or second")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(asdict(measure_run(options.run, options.here))))
        return 0
    costs = _both_runs(options.items)
    rows = [
        [name, f"{cost.called:,}", *(f"{figure:,.1f}" for step in (cost.plan, cost.merge) for figure in _pair(step))]
        for name, cost in costs.items()
    ]
    columns = ["run", "called", "plan, s", "plan, MB", "merge, s", "merge, MB"]
    show("Runs without calls", columns, [rows], f"{options.items:,} items of {len(TEXT)} characters.")
    return 0 if options.no_bounds else judge(bounds(costs, options.items))


def _seconds(items: int) -> float:
    return A_MILLION_SECONDS * max(1.0, items / 1_000_000)


def _pair(step: Step) -> tuple[float, float]:
    return step.seconds, step.peak_mb


def _both_runs(items: int) -> dict[str, RunCost]:
    costs: dict[str, RunCost] = {}
    with tempfile.TemporaryDirectory(prefix="batch-llm-runs-") as name, Console(stderr=True).status("") as status:
        folder = Path(name)
        for which in ("first", "second"):
            status.update(f"{which} run: {items:,} items")
            write_source(folder, items, changed=which == "second")
            options = ("--here", folder, "--run", which)
            found = fresh("tests.benchmarks.second_run", *options, timeout_seconds=15 * _seconds(items))
            costs[which] = RunCost(Step(**found["plan"]), Step(**found["merge"]), found["called"])
    return costs


if __name__ == "__main__":
    raise SystemExit(main())
