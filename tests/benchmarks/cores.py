"""Compare the agent runs of two processes with those of one.

    python -m tests.benchmarks.cores

takes some minutes; `--items 100 --rounds 1 --no-bounds` half a minute. Agents with the client that they come with call
a loopback provider that costs next to nothing, in a flow whose shards go to a pool of one process, or of two. What
counts is agent runs per second of CPU of the busiest process, which is the speed on an otherwise idle machine. The
elapsed time is shown next to it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from pydantic_ai import Agent

from batch_llm import PydanticAIStrategy

from .clients import MODEL
from .fresh import fresh
from .report import Bound, judge, show
from .site import site

LEAST = 1.8
ITEMS, WORKERS, SHARDS = 2_000, 100, 8
LATENCY_SECONDS = 0.05
SEEN = "BATCH_LLM_BENCHMARK_SEEN"
"""Environment variable with the folder into which each shard writes its CPU time."""


class Counted(PydanticAIStrategy[str]):
    """Strategy that writes the CPU of its process between its first call and its last."""

    async def prepare(self) -> None:
        self._began, self._cpu_began = time.time(), time.process_time()

    async def cleanup(self) -> None:
        took = {"pid": os.getpid(), "began": self._began, "ended": time.time()}
        took["cpu_seconds"] = time.process_time() - self._cpu_began
        (Path(os.environ[SEEN]) / f"{os.getpid()}-{time.monotonic_ns()}.json").write_text(json.dumps(took))


def counted() -> Counted:
    """Return an agent as users make them."""
    return Counted(Agent(MODEL))


@dataclass(frozen=True, slots=True)
class Carried:
    """Results of a pool.

    Attributes:
        answered: Agent runs that ended well.
        processes: Those that had a shard.
        busiest_seconds: CPU of the one that had most.
        seconds: By the clock, from the first call to the last answer.
    """

    answered: int
    processes: int
    busiest_seconds: float
    seconds: float

    @property
    def pace(self) -> float:
        """Agent runs per second of CPU of the busiest process."""
        return self.answered / self.busiest_seconds


def here(processes: int, items: int) -> Carried:
    """Run the flow in this process, with a pool of so many."""
    from .in_shards import in_shards

    with tempfile.TemporaryDirectory(prefix="batch-llm-seen-") as seen:
        os.environ[SEEN] = seen
        pool = {
            "runner": "processes",
            "runner_options": {"processes": processes},
            "shard_size": max(1, items // SHARDS),
        }
        answered = in_shards(items, WORKERS, counted, **pool)
        took = [json.loads(path.read_text()) for path in Path(seen).iterdir()]
    busy: dict[int, float] = defaultdict(float)
    for shard in took:
        busy[shard["pid"]] += shard["cpu_seconds"]
    seconds = max(shard["ended"] for shard in took) - min(shard["began"] for shard in took)
    return Carried(answered, len(busy), max(busy.values()), seconds)


def measured(items: int, rounds: int) -> dict[int, list[Carried]]:
    """Run both pools in turn."""
    found: dict[int, list[Carried]] = defaultdict(list)
    with site("cores", latency=LATENCY_SECONDS) as (_, status):
        for number, processes in product(range(rounds), (1, 2)):
            status.update(f"{processes} of 2, round {number + 1}")
            size = ("--here", processes, "--items", items)
            found[processes].append(Carried(**fresh("tests.benchmarks.cores", *size, timeout_seconds=900)))
    return found


def bounds(items: int, carried: dict[int, list[Carried]]) -> list[Bound]:
    """Return the bounds for two processes, by the better round of each."""
    one, two = (max(each.pace for each in carried[processes]) for processes in (1, 2))
    slow, fast = (min(each.seconds for each in carried[processes]) for processes in (1, 2))
    answered = {each.answered for rounds in carried.values() for each in rounds}
    used = {processes: {each.processes for each in rounds} for processes, rounds in carried.items()}
    return [
        Bound("every item is answered", f"{min(answered):,} of {items:,}", answered == {items}),
        Bound(
            f"two processes complete at least {LEAST:g} times the agent runs of one",
            f"{two / one:.2f} times, {slow / fast:.2f} by elapsed time",
            two >= LEAST * one and used == {1: {1}, 2: {2}},
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and the bounds, return the exit code."""
    parser = argparse.ArgumentParser(description="Compare two processes with one.")
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--rounds", type=int, default=2, help="rounds of each pool")
    parser.add_argument("--no-bounds", action="store_true", help="judge nothing")
    parser.add_argument("--here", type=int, help="number of processes of a pool, run from this process; print JSON")
    options = parser.parse_args(arguments)
    if options.here:
        print(json.dumps(asdict(here(options.here, options.items))))
        return 0
    carried = measured(options.items, options.rounds)
    columns = ["pool of", "answered", "busiest, s of CPU", "elapsed, s", "runs/s of CPU"]
    rows = [
        [str(size), f"{each.answered:,}", f"{each.busiest_seconds:.1f}", f"{each.seconds:.1f}", f"{each.pace:,.0f}"]
        for size, rounds in carried.items()
        for each in rounds
    ]
    show("Two processes beside one", columns, [rows], f"{WORKERS} calls at once, of {LATENCY_SECONDS:g} s each.")
    return 0 if options.no_bounds else judge(bounds(options.items, carried))


if __name__ == "__main__":
    # The processes of a pool find the strategy by this module's name, not by "__main__".
    from tests.benchmarks import cores as this

    raise SystemExit(this.main())
