"""Run a thousand agents at once: each must succeed, and the event loop must not be blocked.

    python -m tests.benchmarks.agents

takes half a minute. OpenAI's API is a loopback server in a process of its own, whose every answer takes 50 ms. Started
in one pass of the loop, so many runs would block it for seconds, and open connections would time out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from statistics import quantiles

from batch_llm import LLMWorkItem, ParallelBatchProcessor, ProcessorConfig, PydanticAIStrategy

from .fresh import fresh
from .report import Bound, judge, show
from .serving import served

MODEL = "openai-chat:gpt-4.1-mini"
LATENCY_SECONDS = 0.05
LOOK_SECONDS = 0.01
LONGEST_HOLD_SECONDS = 1.0
"""Connect timeouts are of 5 s: a fifth of that, imports at the first run included, leaves room for a busy machine."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """Results of the agents.

    Attributes:
        runs: Agents that were to run, each with a worker of its own.
        succeeded: Those with the answer that the server gave.
        seconds: By the clock.
        cpu_seconds: CPU of the process.
        lag_p99: By how much the event loop was late at most, by the clock, in 99 of 100 looks.
        longest_hold: The most CPU between two looks, in seconds: how long our process itself kept the loop.
        cpu_bound_lines: Log lines that say that the process is out of CPU.
    """

    runs: int
    succeeded: int
    seconds: float
    cpu_seconds: float
    lag_p99: float
    longest_hold: float
    cpu_bound_lines: int

    @property
    def row(self) -> list[str]:
        """The table's row."""
        lags = (f"{seconds * 1000:,.0f}" for seconds in (self.lag_p99, self.longest_hold))
        busy = f"{self.cpu_seconds / self.seconds:.0%}"
        answers = f"{self.succeeded:,} of {self.runs:,}"
        return ["PydanticAIStrategy", answers, f"{self.seconds:.1f}", busy, *lags, str(self.cpu_bound_lines)]


class _Lines(logging.Handler):
    """Log handler that counts messages about a CPU-bound run."""

    def __init__(self) -> None:
        super().__init__()
        self.cpu_bound_lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.cpu_bound_lines += record.getMessage().startswith("CPU-bound")


@dataclass(slots=True)
class Looks:
    """Measurements of the event loop in seconds: delay of each check, and CPU since the last one."""

    lags: list[float] = field(default_factory=list[float])
    holds: list[float] = field(default_factory=list[float])

    async def look(self) -> None:
        """Check as often as the loop allows."""
        while True:
            due, cpu_began = time.perf_counter() + LOOK_SECONDS, time.thread_time()
            await asyncio.sleep(LOOK_SECONDS)
            self.lags.append(time.perf_counter() - due)
            self.holds.append(time.thread_time() - cpu_began)


@asynccontextmanager
async def watched() -> AsyncGenerator[Looks]:
    """Measure the event loop until the block ends."""
    looks = Looks()
    looking = asyncio.create_task(looks.look())
    try:
        yield looks
    finally:
        looking.cancel()


async def crowd(runs: int) -> Crowd:
    """Run agents in this process, each with its own worker."""
    from pydantic_ai import Agent

    lines = _Lines()
    logging.getLogger("batch_llm").addHandler(lines)
    with served("openai", latency=LATENCY_SECONDS) as server:
        os.environ |= {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "k"}
        async with Agent(MODEL) as agent, watched() as looks:
            strategy = PydanticAIStrategy(agent)
            work = [
                LLMWorkItem[None, str, None](f"item-{number}", strategy, f"text {number}") for number in range(runs)
            ]
            processor = ParallelBatchProcessor[None, str, None](ProcessorConfig(max_workers=runs))
            began, cpu_began = time.perf_counter(), time.process_time()
            for item in work:
                await processor.add_work(item)
            results = (await processor.process_all()).results
            seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    succeeded = sum(result.output == item.prompt for result, item in zip(results, work, strict=True))
    lag = quantiles(looks.lags, n=100)[-1]
    return Crowd(runs, succeeded, seconds, cpu_seconds, lag, max(looks.holds), lines.cpu_bound_lines)


def bounds(found: Crowd) -> list[Bound]:
    """Return the bounds for agents that run at once."""
    succeeded, hold, cpu_bound_lines = found.succeeded == found.runs, found.longest_hold, found.cpu_bound_lines
    return [
        Bound("every agent succeeds", f"{found.succeeded:,} of {found.runs:,}", succeeded),
        Bound(
            f"the loop is never blocked for {LONGEST_HOLD_SECONDS:g} s", f"{hold:.2f} s", hold < LONGEST_HOLD_SECONDS
        ),
        Bound("one log line says that the CPU is the bottleneck", str(cpu_bound_lines), cpu_bound_lines == 1),
    ]


def main() -> int:
    """Run them, print the table and the bounds, return the exit code."""
    parser = argparse.ArgumentParser(description="Run many agents at once.")
    parser.add_argument("--runs", type=int, default=1000, help="number of agents and workers")
    parser.add_argument("--no-bounds", action="store_true", help="judge nothing")
    parser.add_argument("--here", action="store_true", help="in this process, printed as JSON")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(asdict(asyncio.run(crowd(options.runs)))))
        return 0
    found = Crowd(**fresh("tests.benchmarks.agents", "--here", "--runs", options.runs, timeout_seconds=300.0))
    columns = ("agents", "answers", "seconds", "CPU", "lag p99, ms", "longest block, ms", "CPU-bound lines")
    caption = (
        f"{options.runs:,} workers; every answer takes {LATENCY_SECONDS * 1000:.0f} ms. Lag: by how much the event "
        "loop was late, by the clock. Hold: CPU between two looks at it, which a busy machine does not change."
    )
    show("Agents at once", columns, [[found.row]], caption)
    return 0 if options.no_bounds else judge(bounds(found))


if __name__ == "__main__":
    raise SystemExit(main())
