"""Execute one run on three machines, lose one of them in the middle, and count the repeated calls at the provider.

    python -m tests.reliability.machines

What is typed on the machines is what the README says under "Many machines". `--cut KILL` is a machine without power;
`--cut STOP` one that stands still for longer than the others wait, and comes back, which takes two minutes more;
`--cut LINK` one whose network is gone for as long, while it runs.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import fsspec  # pyright: ignore[reportMissingTypeStubs]  has none

from batch_llm.jobs import BatchJob, job_store
from batch_llm.jobs.ledger.records import record_files
from batch_llm.jobs.storage.json_files import objects_in
from batch_llm.jobs.storage.store import Store
from tests.benchmarks.report import Bound, judge
from tests.support.postgres import missing

from . import network
from .site import MACHINES, PATIENCE_SECONDS, TO_DEPLOY, TO_RUN, Site, Trial, exports, site, until

PRESET = "summarize"
"""The preset that the README runs."""

GATHERING_SECONDS = 2.0
"""Latency while machines join, so that a shard is left for the slowest."""


def attempt(made: Site, say: Callable[[str], None]) -> list[Bound]:
    """Start the machines and the run, lose one that executes shards, and check the results."""
    trial = made.trial
    run, victim = _gathered(made, say)
    until(lambda: made.provider.requests >= trial.items // 4)
    before = made.provider.requests
    made.cut(victim)
    lost = made.provider.requests - _records()
    say(f"{victim} is lost after {before:,} calls")
    if trial.cut != "KILL":
        until(_takeovers)
        made.mend(victim)
        say(f"{victim} is back, and its shard belongs to another machine")
    said, _ = run.communicate(timeout=PATIENCE_SECONDS)
    say(said.strip().splitlines()[-1])
    files: Any = fsspec.filesystem("s3")  # pyright: ignore[reportUnknownMemberType]
    rows = [json.loads(line) for line in files.cat_file("bucket/out.jsonl").splitlines()]
    right = sum(row["status"] == "succeeded" for row in rows)
    twice = made.provider.requests - trial.items
    each = trial.workers // len(MACHINES)
    return [
        Bound("each item has its answer", f"{right:,} of {trial.items:,}", right == len(rows) == trial.items),
        Bound("the run completed", said.strip().splitlines()[-1][-60:], run.returncode == 0),
        Bound(f"calls made twice: at most the {each} in flight at the cut", f"{twice} ({lost})", 0 <= twice <= each),
    ]


def _gathered(made: Site, say: Callable[[str], None]) -> tuple[subprocess.Popen[str], str]:
    """Return a run of which all machines execute shards, and a machine other than the one with the run."""
    deployed = made.shell(TO_DEPLOY)
    said, _ = deployed.communicate(timeout=PATIENCE_SECONDS)
    assert deployed.returncode == 0, said
    for machine in MACHINES:
        made.start(machine)
    until(lambda: all(made.is_online(machine) for machine in MACHINES))
    settings = {"shard_size": max(1, made.trial.items // 12), "config": {"max_workers": made.trial.workers}}
    more = [part for name, value in settings.items() for part in ("-p", f"{name}={json.dumps(value)}")]
    run = made.shell(exports(TO_DEPLOY) + TO_RUN, *more, "--watch")
    first = until(lambda: next((machine for machine, count in made.carriers().items() if count), ""))
    until(lambda: sum(map(bool, made.carriers().values())) > 1)
    made.provider.latency = GATHERING_SECONDS
    until(lambda: _claimers() == len(MACHINES))
    made.provider.latency = made.trial.latency
    say(f"{first} has the run; all three machines execute its shards")
    return run, next(machine for machine in MACHINES if machine != first)


def _ledger() -> Store:
    """Return the address of the README's example."""
    settings = [part.split("=", 1) for option, part in pairwise(shlex.split(TO_RUN)) if option == "-p"]
    return job_store(BatchJob.parse({"name": PRESET, "prompt": "{text}"} | dict(settings)))


def _claimers() -> int:
    ledger = _ledger()
    return len({json.loads(ledger.read(name) or b"{}").get("carrier") for name in ledger.names("*/claims/*.json")})


def _takeovers() -> bool:
    return bool(_ledger().names("*/claims/*.000002.json"))


def _records() -> int:
    ledger = _ledger()
    return sum(1 for name in record_files(ledger) for _ in objects_in((ledger.read(name) or b"").splitlines()))


def main() -> int:
    """Lose a machine, print the results and the bounds, return the exit code."""
    parser = argparse.ArgumentParser(description="Lose one of three machines in the middle of a run.")
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--workers", type=int, default=9)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--cut", choices=["KILL", "STOP", "LINK"], default="STOP")
    options = parser.parse_args()
    if reason := missing() or (network.missing() if options.cut == "LINK" else ""):
        print(reason)
        return 2
    if options.cut == "LINK":
        network.enter()
    trial = Trial(options.items, options.workers, options.cut, options.latency)
    with tempfile.TemporaryDirectory(prefix="batch-llm-machines-") as name, site(Path(name), trial) as made:
        return judge(attempt(made, lambda line: print(line, flush=True)))


if __name__ == "__main__":
    raise SystemExit(main())
