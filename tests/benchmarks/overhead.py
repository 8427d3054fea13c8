"""Compare the CPU of a flow with that of the engine only, over the same items, against the same provider.

    python -m tests.benchmarks.overhead

takes some minutes; `--items 300 --rounds 1 --no-bounds` half a minute. The provider is a loopback server that costs
next to nothing. Each contender is a new process; its CPU is counted from the first read of the source to the last
output, so without imports, which the table shows separately. The Prefect server's process is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from batch_llm import LLMWorkItem, ParallelBatchProcessor
from batch_llm.jobs import BatchJob

from .clients import MODEL
from .fresh import fresh
from .report import Bound, judge, show
from .second_run import write_source
from .site import site

MOST, MOST_SECONDS = 1.05, 3.0
LATENCY_SECONDS, WORKERS = 0.05, 50
ENGINE, FLOW = "engine", "flow"
IMPORTS = {ENGINE: "batch_llm.jobs.models.factory", FLOW: "tests.benchmarks.flow_run"}


@dataclass(frozen=True, slots=True)
class Cost:
    """Measurements of a contender.

    Attributes:
        succeeded: Items that were answered.
        cpu_seconds: CPU of its process, without imports.
        import_seconds: CPU before that.
        seconds: By the clock, without imports.
    """

    succeeded: int
    cpu_seconds: float
    import_seconds: float
    seconds: float


async def engine(job: BatchJob) -> int:
    """Call the items of a job by the engine alone, as a shard would; return how many were answered."""
    from batch_llm.jobs.models.factory import make_strategy

    strategy = make_strategy(job)

    def items() -> Iterator[LLMWorkItem[Any, Any, None]]:
        with Path(job.source).open() as file:
            for row in map(json.loads, file):
                yield LLMWorkItem(row["id"], strategy, job.prompt.format(**row))

    results = ParallelBatchProcessor[Any, Any, None](job.config).process_stream(items())
    return sum([result.success async for result in results])


def engine_run(job: BatchJob) -> int:
    """Run the engine."""
    return asyncio.run(engine(job))


def flow_run(job: BatchJob) -> int:
    """Run the flow."""
    from . import flow_run

    return flow_run.flow_run(job).succeeded


def here(contender: str, folder: Path) -> Cost:
    """Measure in this process."""
    settings = {"source": folder / "docs.jsonl", "output": folder / "out.jsonl", "ledger": folder / "ledger"}
    paths = {name: str(path) for name, path in settings.items()}
    about = {"prompt": "Summarize: {text}", "model": MODEL, "canary": 0, "runner": "threads"}
    job = BatchJob.parse(paths | about | {"config": {"max_workers": WORKERS}})
    importlib.import_module(IMPORTS[contender])
    began, cpu_began = time.perf_counter(), time.process_time()
    succeeded = {ENGINE: engine_run, FLOW: flow_run}[contender](job)
    return Cost(succeeded, time.process_time() - cpu_began, cpu_began, time.perf_counter() - began)


def measured(items: int, rounds: int) -> dict[str, list[Cost]]:
    """Run both in turn."""
    found: dict[str, list[Cost]] = defaultdict(list)
    with site("overhead", latency=LATENCY_SECONDS) as (home, status):
        for number, contender in product(range(rounds), (ENGINE, FLOW)):
            status.update(f"{contender}, round {number + 1}")
            folder = home / f"{contender}-{number}"
            folder.mkdir()
            write_source(folder, items, changed=False)
            found[contender].append(
                Cost(**fresh("tests.benchmarks.overhead", "--here", contender, folder, timeout_seconds=900))
            )
    return found


def bounds(items: int, costs: dict[str, list[Cost]]) -> list[Bound]:
    """Return the bounds for the flow, by the better round of each."""
    engine, flow = (min(each.cpu_seconds for each in costs[name]) for name in (ENGINE, FLOW))
    succeeded = [each.succeeded for name in costs for each in costs[name]]
    return [
        Bound("every item is answered", f"{min(succeeded):,} of {items:,}", set(succeeded) == {items}),
        Bound(
            f"a flow takes at most {MOST - 1:.0%} more CPU than the engine, plus {MOST_SECONDS:g} s",
            f"{flow:.1f} s against {engine:.1f} s: {flow - engine:+.1f} s, {flow / engine - 1:+.1%}",
            flow <= MOST * engine + MOST_SECONDS,
        ),
    ]


def main() -> int:
    """Measure, print the table and the bounds, return the exit code."""
    parser = argparse.ArgumentParser(description="Compare the CPU of a flow with that of its engine.")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=2, help="rounds of each contender")
    parser.add_argument("--no-bounds", action="store_true", help="judge nothing")
    parser.add_argument(
        "--here", nargs=2, metavar=("CONTENDER", "FOLDER"), help="run one contender in this process and print JSON"
    )
    options = parser.parse_args()
    if options.here:
        print(json.dumps(asdict(here(options.here[0], Path(options.here[1])))))
        return 0
    costs = measured(options.items, options.rounds)
    rows = [
        [name, f"{each.succeeded:,}", f"{each.cpu_seconds:.1f}", f"{each.import_seconds:.1f}", f"{each.seconds:.1f}"]
        for name in (ENGINE, FLOW)
        for each in costs[name]
    ]
    columns = ["contender", "answered", "CPU, s", "imports, s", "elapsed, s"]
    show("A flow beside its engine", columns, [rows], f"{WORKERS} calls at once, of {LATENCY_SECONDS:g} s each.")
    return 0 if options.no_bounds else judge(bounds(options.items, costs))


if __name__ == "__main__":
    raise SystemExit(main())
