"""Compare a flow in shards with one Prefect task per item, and with pydantic-ai's Prefect integration.

    python -m tests.benchmarks.task_per_item

takes ten minutes; `--items 20 --many 100 --no-bounds` a minute. No provider is called: the strategy and the task
answer at once, and so does the model of the others. Each contender is a new process, with one Prefect server on
SQLite; its time is that of its flow, from start to end, with everything that a run of batch-llm does around its calls.
That is some seconds for any number of items, so the shards are also run with `--many` items; what the others
take is in proportion to the items, and more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from .fresh import fresh
from .prefect_process import prefect_server
from .report import Bound, judge, show

LEAST = 50.0
FEW, MANY, WORKERS = 500, 100_000, 100
ANSWER = "A short answer of some sixty characters, as summaries may be."
PAIRS = {"shards": "task.map", "shards, model": "pydantic-ai, durable", "shards, agents": "pydantic-ai, durable"}
"""Pairs that are compared. By default, jobs call a model without an agent."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Speed of a contender."""

    items: int
    seconds: float

    @property
    def a_second(self) -> float:
        """Items."""
        return self.items / self.seconds


def mapped(items: int) -> int:
    """Answer each item in a Prefect task of its own."""
    from prefect import flow, task

    @task
    def answer(prompt: str) -> str:
        return ANSWER

    @flow
    def one_task_an_item(prompts: list[str]) -> int:
        return len(answer.map(prompts).result())

    return one_task_an_item([f"item {number}" for number in range(items)])


def durable(items: int) -> int:
    """Let an agent answer each item, each request of which is a Prefect task."""
    from prefect import flow
    from pydantic_ai import Agent
    from pydantic_ai.durable_exec.prefect import PrefectDurability
    from pydantic_ai.models.test import TestModel

    agent = Agent(TestModel(custom_output_text=ANSWER), name="task_per_item", capabilities=[PrefectDurability()])

    @flow
    async def agents(prompts: list[str]) -> int:
        room = asyncio.Semaphore(WORKERS)

        async def answer(prompt: str) -> str:
            async with room:
                return (await agent.run(prompt)).output

        return len(await asyncio.gather(*map(answer, prompts)))

    return asyncio.run(agents([f"item {number}" for number in range(items)]))


def sharded(strategy: str, items: int) -> int:
    """Answer the items in shards, with a strategy of `in_shards`."""
    from . import in_shards

    return in_shards.in_shards(items, WORKERS, getattr(in_shards, strategy))


CONTENDERS: dict[str, Callable[[int], int]] = {
    "task.map": mapped,
    "pydantic-ai, durable": durable,
    "shards": partial(sharded, "AtOnce"),
    "shards, model": partial(sharded, "lean"),
    "shards, agents": partial(sharded, "agents"),
}


def here(contender: str, items: int) -> Pace:
    """Measure in this process.

    Raises:
        RuntimeError: An item was not answered.
    """
    began = time.perf_counter()
    answered = CONTENDERS[contender](items)
    seconds = time.perf_counter() - began
    if answered != items:
        raise RuntimeError(f"{answered} of {items} items were answered")
    return Pace(items, seconds)


def measured(items: int, many: int) -> dict[tuple[str, int], Pace]:
    """Run the contenders in turn."""
    runs = [(name, items) for name in CONTENDERS] + [(name, many) for name in PAIRS]
    found: dict[tuple[str, int], Pace] = {}
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batch-llm-beside-")))
        status = stack.enter_context(Console(stderr=True).status(""))
        os.environ.update(stack.enter_context(prefect_server(home / "prefect")).env)
        for name, count in runs:
            status.update(f"{name}: {count:,} items")
            found[name, count] = Pace(
                **fresh("tests.benchmarks.task_per_item", "--here", name, "--items", count, timeout_seconds=1_800)
            )
    return found


def bounds(paces: dict[tuple[str, int], Pace], items: int, many: int) -> list[Bound]:
    """Return the bounds for shards."""
    judged: list[Bound] = []
    for ours, other in PAIRS.items():
        few, theirs = paces[ours, items].a_second, paces[other, items].a_second
        ratio = paces[ours, many].a_second / theirs
        figure = f"{ratio:.0f} times ({few / theirs:.1f} times at {items:,} items, the run's own seconds included)"
        judged.append(
            Bound(f"{ours}: at least {LEAST:g} times the items per second of {other}", figure, ratio >= LEAST)
        )
    return judged


def main() -> int:
    """Measure, print the table and the bounds, return the exit code."""
    parser = argparse.ArgumentParser(description="Compare shards with one Prefect task per item.")
    parser.add_argument("--items", type=int, default=FEW)
    parser.add_argument("--many", type=int, default=MANY, help="number of items of an additional run in shards")
    parser.add_argument("--no-bounds", action="store_true", help="judge nothing")
    parser.add_argument("--here", choices=list(CONTENDERS), help="run one contender in this process and print JSON")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(asdict(here(options.here, options.items))))
        return 0
    paces = measured(options.items, options.many)
    rows = [
        [name, f"{pace.items:,}", f"{pace.seconds:.1f}", f"{pace.a_second:,.0f}"] for (name, _), pace in paces.items()
    ]
    show("Shards beside one task an item", ["contender", "items", "s", "items/s"], [rows], f"{WORKERS} at once.")
    return 0 if options.no_bounds else judge(bounds(paces, options.items, options.many))


if __name__ == "__main__":
    raise SystemExit(main())
