"""Measure the cost of a call through an agent, through `ModelStrategy` as jobs use it, and through bare aiohttp.

    python -m tests.benchmarks.clients

takes four minutes; `--calls 20 --rounds 1 --no-bounds` some seconds. OpenAI's API is a loopback server in a process of
its own, whose every answer takes 50 ms. The clients take turns, each in a fresh process; what counts is each one's
better round, because other processes only make it slower. A slow client is stopped after some seconds: its speed
is that of the calls that were made.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from typing import Any

from pydantic import BaseModel
from rich.console import Console

from batch_llm import (
    BatchResult,
    LLMCallStrategy,
    LLMWorkItem,
    ModelStrategy,
    ParallelBatchProcessor,
    ProcessorConfig,
    PydanticAIStrategy,
)

from .fresh import fresh
from .report import Bound, judge, show
from .serving import Served, served

MODEL = "openai-chat:gpt-4.1-mini"
FEW, MANY = 100, 1000
MOST_CPU = 0.5
LEAST_SPEED = 3.0
LATENCY_SECONDS = 0.05
LONGEST_SECONDS = 12
WARM_UP_CALLS = 10


class Book(BaseModel):
    """An answer."""

    title: str
    pages: int


@dataclass(frozen=True, slots=True)
class Cell:
    """Results of one client with one number of workers.

    Attributes:
        calls: Calls that were begun.
        succeeded: Calls with the answer that the server gave.
        counted: Whether the tokens of the answers are those that the server served.
        seconds: By the clock.
        cpu_seconds: CPU of the client's process.
    """

    calls: int
    succeeded: int
    counted: bool
    seconds: float
    cpu_seconds: float

    @property
    def speed(self) -> float:
        """Answers per second."""
        return self.succeeded / self.seconds

    @property
    def cpu(self) -> float:
        """CPU per answer in ms."""
        return self.cpu_seconds / self.succeeded * 1000 if self.succeeded else float("inf")

    @property
    def right(self) -> bool:
        """Whether every call has its answer and every token is counted."""
        return self.succeeded == self.calls and self.counted

    def row(self, name: str) -> list[str]:
        """The cell's row of the table."""
        done = f"{self.succeeded:,} of {self.calls:,}"
        return [name, done, "yes" if self.counted else "no", f"{self.speed:,.0f}", f"{self.cpu:.2f}"]


class Bare(LLMCallStrategy[str]):
    """Strategy with aiohttp only, which no other client can beat."""

    def __init__(self, session: Any, url: str) -> None:
        self._session, self._url = session, f"{url}/chat/completions"

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": prompt}]}
        async with self._session.post(self._url, json=body) as response:
            answer = await response.json()
        usage, message = answer["usage"], answer["choices"][0]["message"]
        return message["content"], {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]}


@asynccontextmanager
async def bare(workers: int) -> AsyncGenerator[LLMCallStrategy[Any]]:
    """Make the limit."""
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=workers)) as session:
        yield Bare(session, os.environ["OPENAI_BASE_URL"])


@asynccontextmanager
async def agent(workers: int, output_type: Any) -> AsyncGenerator[LLMCallStrategy[Any]]:
    """Make an agent as users do, with the client that it comes with."""
    from pydantic_ai import Agent

    async with Agent(MODEL, output_type=output_type) as made:
        yield PydanticAIStrategy(made)


@asynccontextmanager
async def lean(workers: int, output_type: Any) -> AsyncGenerator[LLMCallStrategy[Any]]:
    """Make what jobs call, with their client."""
    from batch_llm.jobs.models.clients import model_and_client

    model, client = model_and_client(MODEL, ProcessorConfig(max_workers=workers))
    async with client:
        yield ModelStrategy(model, output_type=output_type, settings={"max_retries": 0})


CLIENTS: dict[str, Callable[[int], AbstractAsyncContextManager[LLMCallStrategy[Any]]]] = {
    "bare aiohttp": bare,
    "Agent.run, text": partial(agent, output_type=str),
    "ModelStrategy, text": partial(lean, output_type=str),
    "Agent.run, BaseModel": partial(agent, output_type=Book),
    "ModelStrategy, BaseModel": partial(lean, output_type=Book),
}


async def call(strategy: LLMCallStrategy[Any], workers: int, calls: int) -> BatchResult[Any, None]:
    """Make the calls, as far as they start within the time limit."""
    processor = ParallelBatchProcessor[None, Any, None](ProcessorConfig(max_workers=workers))
    for number in range(calls):
        await processor.add_work(LLMWorkItem(f"item-{number}", strategy, f"the prompt of item-{number}"))
    late = asyncio.get_running_loop().call_later(LONGEST_SECONDS, processor.stop)
    try:
        return await processor.process_all()
    finally:
        late.cancel()


async def cell(name: str, workers: int, calls: int) -> Cell:
    """Measure one client in this process, after a few calls for what is imported or built at the first one."""
    with served("openai", latency=LATENCY_SECONDS) as server:
        os.environ |= {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "k"}
        async with CLIENTS[name](workers) as strategy:
            await call(strategy, workers, WARM_UP_CALLS)
            before = _served_tokens(server)
            began, cpu_began = time.perf_counter(), time.process_time()
            result = await call(strategy, workers, calls)
            seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
        spent = tuple(after - earlier for after, earlier in zip(_served_tokens(server), before, strict=True))
    begun = [one for one in result.results if one.error_info is None or one.error_info.category != "not_attempted"]
    right = sum(one.success and _title(one.output) == f"the prompt of {one.item_id}" for one in begun)
    counted = spent == (result.total_input_tokens, result.total_output_tokens)
    return Cell(len(begun), right, counted, seconds, cpu_seconds)


def _served_tokens(server: Served) -> tuple[int, int]:
    stats = server.stats()
    return stats["input_tokens"], stats["output_tokens"]


def _title(output: Any) -> str:
    return output.title if isinstance(output, Book) else output


def bounds(cells: dict[tuple[str, int], Cell]) -> list[Bound]:
    """Return the bounds for `ModelStrategy`, compared with an agent in the same run."""
    judged: list[Bound] = []
    for kind in ("text", "BaseModel"):
        agents, leans = (
            [cells[f"{way}, {kind}", workers] for workers in (FEW, MANY)] for way in ("Agent.run", "ModelStrategy")
        )
        cpu = leans[0].cpu / agents[0].cpu
        speed = leans[1].speed / agents[1].speed if agents[1].succeeded else float("inf")
        judged += [
            Bound(f"{kind}, {FEW} workers: at most {MOST_CPU:g} of an agent's CPU", f"{cpu:.2f}", cpu <= MOST_CPU),
            Bound(
                f"{kind}, {MANY:,} workers: at least {LEAST_SPEED:g}x its calls", f"{speed:.1f}x", speed >= LEAST_SPEED
            ),
            Bound(f"{kind}: every answer is correct and every token counted", *_rightness(leans)),
        ]
    return judged


def _rightness(cells: list[Cell]) -> tuple[str, bool]:
    return ", ".join(f"{each.succeeded:,} of {each.calls:,}" for each in cells), all(each.right for each in cells)


def main() -> int:
    """Measure, print the table and the bounds, return the exit code."""
    parser = argparse.ArgumentParser(description="Measure the cost of a call through each client.")
    parser.add_argument("--calls", type=int, help="calls of each client; 300 to 2,000 by default")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of each client")
    parser.add_argument("--no-bounds", action="store_true", help="judge nothing")
    parser.add_argument("--here", choices=list(CLIENTS), help="run one client in this process and print JSON")
    parser.add_argument(
        "--workers", default=f"{FEW},{MANY}", help="numbers of workers; bounds are checked only with both defaults"
    )
    options = parser.parse_args()
    crowds = [int(workers) for workers in options.workers.split(",")]
    if options.here:
        print(json.dumps(asdict(asyncio.run(cell(options.here, crowds[0], options.calls or FEW)))))
        return 0
    cells = _cells(options.calls, options.rounds, crowds)
    columns = ("client", "answers", "tokens counted", "calls/s", "CPU per call, ms")
    sections = [[cells[name, workers].row(f"{name}, {workers:,} workers") for name in CLIENTS] for workers in crowds]
    show("The clients", columns, sections, f"Every answer takes {LATENCY_SECONDS * 1000:.0f} ms.")
    return 0 if options.no_bounds or {FEW, MANY} - {*crowds} else judge(bounds(cells))


def _cells(calls: int | None, turns: int, crowds: list[int]) -> dict[tuple[str, int], Cell]:
    found: dict[tuple[str, int], list[Cell]] = defaultdict(list)
    with Console(stderr=True).status("") as status:
        for workers, _, name in product(crowds, range(turns), CLIENTS):
            count = calls or _calls(name, workers)
            status.update(f"{name}, {workers:,} workers: {count:,} calls")
            size = ("--workers", workers, "--calls", count)
            found[name, workers].append(Cell(**fresh("tests.benchmarks.clients", "--here", name, *size)))
    return {(name, workers): _better(name, rounds) for (name, workers), rounds in found.items()}


def _better(name: str, rounds: list[Cell]) -> Cell:
    """Return the faster round; of what is judged, one in which something was wrong comes before."""
    wrong = [each for each in rounds if not each.right]
    return wrong[0] if wrong and name.startswith("ModelStrategy") else max(rounds, key=lambda each: each.speed)


def _calls(name: str, workers: int) -> int:
    """Enough that each worker has something to do, and no more than pass in time."""
    if name.startswith("Agent.run"):
        return 300 if workers == FEW else MANY
    return 1500 if workers == FEW else 2 * MANY


if __name__ == "__main__":
    raise SystemExit(main())
