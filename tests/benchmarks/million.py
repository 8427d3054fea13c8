"""A million items through the whole flow: plan, shards, ledger, merge, artifacts, with a strategy that answers at once.

    python -m tests.benchmarks.million

takes some minutes and 3 GB of disk; `--items 500 --workers 10 --no-bounds` half a minute. The Prefect server, on SQLite
with an empty database, and the flow have processes of their own; their memory is the proportional set size, on Linux.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from .fresh import CHECKOUT
from .prefect_process import PrefectProcess, prefect_server
from .report import Bound, judge, show
from .second_run import MEGABYTE, TEXT, write_source
from .watching import watching

MOST_MINUTES, MOST_MB, MOST_DATABASE_MB = 15.0, 1_500.0, 20.0
SETTLE_SECONDS = 5.0
"""Seconds for the server to write the last requests."""


@dataclass(frozen=True, slots=True)
class Run:
    """Measurements of a run.

    Attributes:
        succeeded: Items that were answered.
        seconds: By the clock, from the start of the flow's process to its end.
        plan_seconds, shard_seconds, publish_seconds: Of that, what each part took; the rest is imports and goodbyes.
        flow_mb: The largest memory of the flow's processes together.
        server_mb: That of the Prefect server.
        idle_mb: What the Prefect server took before.
        database_mb: By how much its database grew.
    """

    succeeded: int
    seconds: float
    plan_seconds: float
    shard_seconds: float
    publish_seconds: float
    flow_mb: float
    server_mb: float
    idle_mb: float
    database_mb: float


def whole_run(folder: Path, items: int, workers: int) -> Run:
    """Run a batch as a flow, with its own Prefect server.

    Raises:
        RuntimeError: It failed; its own words stand in the message.
    """
    write_source(folder, items, changed=False)
    with prefect_server(folder / "prefect") as server:
        return watched(server, folder, workers)


def watched(server: PrefectProcess, folder: Path, workers: int) -> Run:
    """Run the batch over the documents in `folder`, and watch it and the server.

    Raises:
        RuntimeError: As `whole_run`.
    """
    before = server.database_bytes()
    began, began_at = time.monotonic(), time.time()
    source, log = folder / "docs.jsonl", (folder / "flow.log").open("w+")
    command = [sys.executable, "-m", "tests.benchmarks.at_once", str(source), str(folder), "--workers", str(workers)]
    with (
        log,
        subprocess.Popen(command, cwd=CHECKOUT, env=server.env, stdout=subprocess.PIPE, stderr=log) as flow,
        watching({"flow": flow.pid, "server": server.pid}) as watch,
    ):
        watch.look({"server": server.pid})
        idle = watch.last["server"]
        printed = flow.communicate()[0]
        seconds = time.monotonic() - began
        if flow.returncode:
            raise RuntimeError(f"the flow failed:\n{(folder / 'flow.log').read_text()[-4000:]}")
        time.sleep(SETTLE_SECONDS)
    summary: dict[str, Any] = json.loads(printed)
    planned, answered, ended = _moments(folder)
    return Run(
        succeeded=int(summary["succeeded"]),
        seconds=seconds,
        plan_seconds=planned - began_at,
        shard_seconds=answered - planned,
        publish_seconds=ended - answered,
        flow_mb=watch.peak["flow"] / MEGABYTE,
        server_mb=watch.peak["server"] / MEGABYTE,
        idle_mb=idle / MEGABYTE,
        database_mb=(server.database_bytes() - before) / MEGABYTE,
    )


def _moments(folder: Path) -> tuple[float, float, float]:
    """Return when the plan was made, the last item answered, and the totals written."""
    (run,) = (path.parent for path in folder.glob("ledger/*/*/summary.json"))
    answered = max(path.stat().st_mtime for path in run.glob("ledger/*.jsonl"))
    return (
        float(json.loads((run / "plan.json").read_text())["planned_at"]),
        answered,
        (run / "summary.json").stat().st_mtime,
    )


def bounds(items: int, run: Run) -> list[Bound]:
    """Return the bounds for a million items."""
    together = run.flow_mb + run.server_mb
    return [
        Bound("every item is answered", f"{run.succeeded:,} of {items:,}", run.succeeded == items),
        Bound(
            f"the whole flow: under {MOST_MINUTES:g} minutes",
            f"{run.seconds / 60:.1f} min",
            run.seconds < 60 * MOST_MINUTES,
        ),
        Bound(
            f"all processes together, with the Prefect server: under {MOST_MB:,.0f} MB",
            f"{together:,.0f} MB (flow {run.flow_mb:,.0f}, server {run.server_mb:,.0f})",
            together < MOST_MB,
        ),
        Bound(
            f"Prefect's database grows by less than {MOST_DATABASE_MB:g} MB",
            f"{run.database_mb:.1f} MB",
            run.database_mb < MOST_DATABASE_MB,
        ),
    ]


def main() -> int:
    """Run it, print the table and the bounds, return the exit code."""
    parser = argparse.ArgumentParser(description="Measure time and memory of a million items without calls.")
    parser.add_argument("--items", type=int, nargs="+", default=[1_000_000], help="numbers of items, one row each")
    parser.add_argument("--workers", type=int, default=100, help="concurrent calls; more than 50 run in two processes")
    parser.add_argument("--no-bounds", action="store_true", help="judge nothing")
    options = parser.parse_args()
    runs: dict[int, Run] = {}
    for items in options.items:
        with (
            tempfile.TemporaryDirectory(prefix="batch-llm-million-") as name,
            Console(stderr=True).status(f"{items:,}"),
        ):
            runs[items] = whole_run(Path(name), items, options.workers)
    columns = ["items", "s", "plan, s", "shards, s", "publish, s", "flow, MB", "server, MB", "idle, MB", "database, MB"]
    show(
        "A run beside its calls", columns, [[_row(*each) for each in runs.items()]], f"{len(TEXT)} characters an item."
    )
    return 0 if options.no_bounds else judge([bound for each in runs.items() for bound in bounds(*each)])


def _row(items: int, run: Run) -> list[str]:
    figures = (run.seconds, run.plan_seconds, run.shard_seconds, run.publish_seconds)
    megabytes = (run.flow_mb, run.server_mb, run.idle_mb)
    return [
        f"{items:,}",
        *(f"{figure:.1f}" for figure in figures),
        *(f"{figure:,.0f}" for figure in megabytes),
        f"{run.database_mb:.1f}",
    ]


if __name__ == "__main__":
    raise SystemExit(main())
