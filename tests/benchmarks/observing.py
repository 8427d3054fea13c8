"""Measure the cost of events, progress, artifacts and history of a run, compared with the same calls without them.

    python -m tests.benchmarks.observing

takes some minutes; `--items 200 --rounds 1 --many 0 --no-bounds` half a minute. Both call a provider on loopback by
the same engine, shards and Prefect tasks, under one limit; "bare" publishes only its task runs to Prefect. They take
turns, each in a process of its own with the same Prefect server, and each after a small run of the same kind.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, cast, get_args

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from rich.console import Console

from batch_llm import jobs
from batch_llm.jobs import BatchJob, ShardOutcome, ShardRef, Summary
from batch_llm.prefect import run_batch
from batch_llm.prefect.rate_limits.sharing import shared
from batch_llm.prefect.telemetry.outcome import Outcome

from .at_once import AtOnce
from .fresh import fresh
from .prefect_process import prefect_server
from .report import Bound, judge, show
from .second_run import write_source
from .serving import served

MOST_TIMES, MOST_WRITES, MOST_EVENTS = 1.05, 2.0, 1_000
LATENCY_SECONDS = 0.2
WARM_UP_ITEMS = 50
PATIENCE_SECONDS = 60.0
"""Seconds for the server to store the last requests."""


@dataclass(frozen=True, slots=True)
class Run:
    """Measurements of a run.

    Attributes:
        succeeded: Items that were answered.
        shards: Its shards, which run one after another.
        cpu_seconds: CPU of the flow's process.
        seconds: By the clock.
        writes: Requests to Prefect's API that change something.
        events: Events of the run that the server has; not counted of a bare one.
    """

    succeeded: int
    shards: int
    cpu_seconds: float
    seconds: float
    writes: int
    events: int

    @property
    def told_a_second(self) -> float:
        """Writes and events per second; one shard is running at a time."""
        return (self.writes + self.events) / self.seconds


@flow(name="batch-llm-benchmark")
def observed(job: BatchJob) -> Summary:
    """Run the job as users do."""
    return run_batch(job)


@flow(name="batch-llm-benchmark")
def at_once(job: BatchJob) -> Summary:
    """Run the job with answers that cost nothing."""
    return run_batch(job, strategy=AtOnce)


@flow(name="batch-llm-benchmark")
def bare(job: BatchJob) -> Summary:
    """Run the same shards in Prefect tasks, in a thread as a run does, without publishing anything else."""
    planned = jobs.plan(job, str(flow_run.id))
    with jobs.governed(job):  # the shards go on at one pace, as in a run
        for shard in planned.shards:
            cast("Any", bare_shard).submit(job, planned.folder, shard).result()  # typed for both worlds
    return jobs.merge(job, planned)


@task(cache_policy=NO_CACHE)
def bare_shard(job: BatchJob, folder: str, shard: ShardRef) -> ShardOutcome:
    """Answer a shard at the pace of the job's limit, as a run's own task does."""
    with jobs.governed(job) as governor, shared(jobs.scope_of(job), governor, job.limits):
        return asyncio.run(jobs.run_shard(job, folder, shard, governor=governor))


FLOWS: dict[str, Callable[[BatchJob], Summary]] = {"observed": observed, "bare": bare, "at once": at_once}


class _Writes(logging.Handler):
    """Counter of requests that write to the Prefect API; a read may be a POST, too."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        method, url = re.findall(r"HTTP Request: (\w+) (\S+)", record.getMessage())[0]
        self.count += "/api/" in url and method != "GET" and not url.endswith(("/filter", "/count"))


@contextmanager
def counted_writes() -> Generator[_Writes]:
    """Count the writes of this process."""
    counting, requests = _Writes(), logging.getLogger("httpx")
    before, propagated = requests.level, requests.propagate
    requests.setLevel(logging.INFO)
    requests.addHandler(counting)
    requests.propagate = False
    try:
        yield counting
    finally:
        requests.removeHandler(counting)
        requests.setLevel(before)
        requests.propagate = propagated


def count_events(run_id: str) -> Counter[str]:
    """Return how many events of each name are about the flow run, once the server knows that its batch has ended.

    Raises:
        RuntimeError: It does not hear of that.
    """
    about = {"id": [f"prefect.flow-run.{run_id}"]}
    ended: list[str] = [f"batch-llm.run.{outcome}" for outcome in get_args(Outcome)]
    path: Any = "/events/count-by/event"  # not among the routes that the client is typed for
    end = time.monotonic() + PATIENCE_SECONDS
    with get_client(sync_client=True) as client:
        while time.monotonic() < end:
            counts = Counter[str]()
            for part in ("related", "resource"):
                for each in client.request("POST", path, json={"filter": {part: about}}).json():
                    counts[each["value"]] += each["count"]
            if any(counts[name] for name in ended):
                return counts
            time.sleep(0.5)
    raise RuntimeError(f"Prefect received no event of the end of {run_id} in {PATIENCE_SECONDS:g} s")


def here(kind: str, job: BatchJob) -> Run:
    """Run a job in this process, after a small one of its kind."""
    # Under a limit of its own: as a member of the same one, which it stays for some seconds, it would have a share.
    own = {"ledger": f"{job.ledger}-small", "name": "small", "limit_scope": "small"}
    small = job.model_copy(update={"limit": WARM_UP_ITEMS, **own})
    FLOWS[kind](small)
    with counted_writes() as writes:
        began, cpu_began = time.perf_counter(), time.process_time()
        summary = FLOWS[kind](job)
        cpu_seconds, seconds = time.process_time() - cpu_began, time.perf_counter() - began
    (plan,) = (path for path in Path(job.ledger).glob("*/*/plan.json"))
    shards = len(json.loads(plan.read_text())["shards"])
    events = count_events(plan.parent.name).total() if kind != "bare" else 0
    return Run(summary.succeeded, shards, cpu_seconds, seconds, writes.count, events)


def settings(folder: Path, kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the job of a run that has its own folder."""
    return {
        "name": "seen",
        "source": str(folder.parent / "docs.jsonl"),
        "output": str(folder / "out.jsonl"),
        "ledger": str(folder / "ledger"),
        "prompt": "Summarize: {text}",
        "model": "local" if kind == "at once" else "openai-chat:gpt-4.1-mini",
        "runner": "threads",
        "config": {"max_workers": options.workers},
        "limits": {"requests_per_minute": 6_000_000},  # known, so that no run has to find it
    }


def measured(folder: Path, kind: str, options: argparse.Namespace, env: dict[str, str]) -> Run:
    """Run in a process of its own.

    Raises:
        RuntimeError: It failed; the message has its own words.
    """
    folder.mkdir()
    job = json.dumps(settings(folder, kind, options))
    return Run(**fresh("tests.benchmarks.observing", "--one", kind, job, timeout_seconds=3600, env=env))


def compare(options: argparse.Namespace) -> tuple[dict[str, list[Run]], Run | None]:
    """Run both kinds in turns; then the run of many items, if there is to be one."""
    runs: dict[str, list[Run]] = {"observed": [], "bare": []}
    with (
        tempfile.TemporaryDirectory(prefix="batch-llm-observing-") as name,
        prefect_server(Path(name) / "prefect") as server,
        served("openai", latency=LATENCY_SECONDS) as provider,
    ):
        folder = Path(name)
        env = server.env | {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "none"}
        os.environ.update(env)
        write_source(folder, options.items, changed=False)
        for round_ in range(options.rounds):
            for kind in runs if round_ % 2 else reversed(list(runs)):
                with Console(stderr=True).status(f"{kind}, round {round_ + 1}"):
                    runs[kind].append(measured(folder / f"{kind}-{round_}", kind, options, env))
        if not options.many:
            return runs, None
        (folder / "docs.jsonl").unlink()
        write_source(folder, options.many, changed=False)
        with Console(stderr=True).status(f"{options.many:,} items"):
            return runs, measured(folder / "many", "at once", options, env)


def bounds(runs: dict[str, list[Run]], many: Run | None) -> list[Bound]:
    """Return the bounds for observing."""
    found: list[Bound] = []
    for what, of in (("CPU", "cpu_seconds"), ("time", "seconds")):
        seen, unseen = ([getattr(run, of) for run in runs[kind]] for kind in ("observed", "bare"))
        times = median(each / other for each, other in zip(seen, unseen, strict=True))
        promise = f"{what} of an observed run: at most {MOST_TIMES - 1:.0%} more than of a bare one"
        found.append(Bound(promise, f"{times - 1:+.1%}", times <= MOST_TIMES))
    told = max(run.told_a_second for run in runs["observed"])
    promise = f"at most {MOST_WRITES:g} API writes and events per second and shard"
    found.append(Bound(promise, f"{told:.2f}", told <= MOST_WRITES))
    if many:
        promise = f"{many.succeeded:,} items cause fewer than {MOST_EVENTS:,} events"
        found.append(Bound(promise, f"{many.events:,}", many.events < MOST_EVENTS))
    return found


def main() -> int:
    """Run it, print the table and the bounds, return the exit code."""
    parser = argparse.ArgumentParser(description="Measure the cost of observing a run.")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--many", type=int, default=100_000, help="items of the run whose events are counted; 0 for none"
    )
    parser.add_argument("--no-bounds", action="store_true", help="judge nothing")
    parser.add_argument("--one", nargs=2, metavar=("KIND", "JOB"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        kind, job = options.one
        print(json.dumps(asdict(here(kind, BatchJob.parse(json.loads(job))))))
        return 0
    runs, many = compare(options)
    rows = [_row(kind, run) for kind, each in runs.items() for run in each]
    columns = ["run", "items", "shards", "CPU, s", "s", "writes", "events", "writes and events/s"]
    show("Cost of observing", columns, [rows, [_row("at once", many)] if many else []])
    return 0 if options.no_bounds else judge(bounds(runs, many))


def _row(kind: str, run: Run) -> Sequence[str]:
    times = (f"{run.cpu_seconds:.2f}", f"{run.seconds:.1f}")
    counts = (f"{run.writes:,}", f"{run.events:,}", f"{run.told_a_second:.2f}")
    return [kind, f"{run.succeeded:,}", f"{run.shards:,}", *times, *counts]


if __name__ == "__main__":
    raise SystemExit(main())
