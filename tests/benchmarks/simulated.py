"""Compare the forecasts of `batch-llm simulate` with real runs against a provider on loopback.

    python -m tests.benchmarks.simulated

takes some six minutes; `--only limit --scale 0.2 --no-bounds` half a minute. Each run is a flow in a process of its own
with a Prefect server on SQLite; the provider is a token bucket that draws latencies and failures. Time is from the
plan to the last answer. The CPU of a call is not forecast, as the provider's latency is not: it is measured
in that run, on that machine, after a fifth of the items were answered.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from batch_llm.config import ProcessorConfig, RetryConfig
from batch_llm.simulation import Forecast, Scenario, simulate

from .clients import MODEL
from .fresh import CHECKOUT
from .prefect_process import PrefectProcess, prefect_server
from .report import Bound, judge, show
from .serving import Served, listening
from .watching import Watch, watching

NEAR = 0.15
NEAR_SECONDS = 3.0
"""Of time: what imports and processes take varies by so much between two runs."""

REFUSED_SHARE = 0.015
STARTED = 0.2
"""The share of answers after which the processes have imported what they need."""

WORDS = 100
ATTEMPTS = 5
"""With fewer, one of a thousand items may fail for good, and its shard is tried again half a minute later, or not."""

BASE = Scenario(
    1_000,
    latency=0.5,
    latency_p95=1.2,
    input_tokens=WORDS,
    output_tokens=100,
    model=MODEL,
    shard_size=500,
    cores=2,
    config=ProcessorConfig(retry=RetryConfig(max_attempts=ATTEMPTS)),
)
SCENARIOS = {
    "limit": replace(BASE, requests_per_minute=1_200, max_workers=40),
    "latency": replace(BASE, max_workers=20),
    "failures": replace(BASE, requests_per_minute=1_200, max_workers=40, failure_rate=0.05),
    "limit found": replace(BASE, requests_per_minute=1_200, max_workers=40, limits_known=False),
    "two processes": replace(BASE, items=3_000, requests_per_minute=4_800, max_workers=120, processes=2),
    "CPU": replace(BASE, items=6_000, max_workers=100, latency=0.1, latency_p95=0.15, shard_size=6_000),
}


@dataclass(frozen=True, slots=True)
class Real:
    """Measurements of a run, and the CPU per call."""

    seconds: float
    calls: int
    refused: int
    tokens: int
    cost_usd: float
    memory_bytes: int
    call_seconds: float


@dataclass(frozen=True, slots=True)
class Pair:
    """A run and its forecast."""

    real: Real
    forecast: Forecast

    def figures(self) -> dict[str, tuple[float, float]]:
        """Return the compared values: the real one and the forecast."""
        real, forecast = self.real, self.forecast
        tokens = forecast.input_tokens + forecast.output_tokens
        return {
            "seconds": (real.seconds, forecast.call_seconds),
            "calls": (real.calls, forecast.calls),
            "refused": (real.refused, forecast.refused),
            "tokens": (real.tokens, tokens),
            "USD": (real.cost_usd, forecast.cost_usd or 0.0),
            "MB": (real.memory_bytes / 1e6, forecast.memory_bytes / 1e6),
        }

    def holds(self, figure: str) -> bool:
        """Whether the forecast of a figure is near."""
        real, predicted = self.figures()[figure]
        least = {"seconds": NEAR_SECONDS, "refused": REFUSED_SHARE * self.real.calls}.get(figure, 0.0)
        return abs(predicted - real) <= max(NEAR * real, least)


def compare(name: str, scenario: Scenario, server: PrefectProcess) -> Pair:
    """Run a scenario and its simulation."""
    with tempfile.TemporaryDirectory(prefix="batch-llm-simulated-") as folder:
        real = _run(name, scenario, server, Path(folder))
        return Pair(real, simulate(replace(scenario, call_seconds=real.call_seconds)))


def _run(name: str, scenario: Scenario, server: PrefectProcess, folder: Path) -> Real:
    job = _job(name, scenario, folder)
    text = " ".join(["word"] * (WORDS - 2))
    lines = (json.dumps({"id": str(number), "text": f"item-{number} is {text}"}) for number in range(scenario.items))
    Path(job["source"]).write_text("".join(f"{line}\n" for line in lines))
    with listening("tests.benchmarks.limited", *_provider(scenario)) as provider:
        env = server.env | {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "k"}
        command = [sys.executable, "-m", "tests.benchmarks.flow_run", json.dumps(job)]
        with (
            subprocess.Popen(
                command, cwd=CHECKOUT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as flow,
            watching({"flow": flow.pid}) as watch,
        ):
            printed, said = flow.communicate()
        if flow.returncode:
            raise RuntimeError(f"{name} failed:\n{said[-4000:]}")
        return _real(json.loads(printed), provider, folder, watch)


def _real(summary: dict[str, Any], provider: Served, folder: Path, watch: Watch) -> Real:
    stats = provider.stats()
    calls = len(stats["accepted_at"]) + len(stats["refused_at"])
    (run,) = (path.parent for path in folder.glob("ledger/*/*/summary.json"))
    planned = float(json.loads((run / "plan.json").read_text())["planned_at"])
    records = [json.loads(line) for path in run.glob("ledger/*.jsonl") for line in path.read_text().splitlines()]
    answered = sorted(datetime.fromisoformat(record["finished_at"]).timestamp() for record in records)
    begin, end = answered[round(STARTED * len(answered))], answered[-1]
    return Real(
        seconds=end - planned,
        calls=calls,
        refused=len(stats["refused_at"]),
        tokens=summary["total_input_tokens"] + summary["total_output_tokens"],
        cost_usd=summary["cost_usd"],
        memory_bytes=watch.peak["flow"],
        call_seconds=watch.cpu_used("flow", begin, end) * (end - begin) / ((1 - STARTED) * calls),
    )


def _job(name: str, scenario: Scenario, folder: Path) -> dict[str, Any]:
    limits = {"requests_per_minute": scenario.requests_per_minute} if scenario.limits_known else {}
    runner = {"runner": "processes", "runner_options": {"processes": scenario.processes}}
    return {
        "source": str(folder / "docs.jsonl"),
        "prompt": "{text}",
        "output": str(folder / "out.jsonl"),
        "ledger": str(folder / "ledger"),
        "model": scenario.model,
        "limits": limits,
        "limit_scope": f"simulated {name} {time.time()}",
        "config": {"max_workers": scenario.workers, "retry": {"max_attempts": ATTEMPTS}},
        "shard_size": scenario.shard_size,
        "canary": 0,
        **(runner if scenario.processes else {"runner": "threads"}),
    }


def _provider(scenario: Scenario) -> list[object]:
    limit = scenario.requests_per_minute
    return [
        *("--latency", scenario.latency, "--latency-p95", scenario.latency_p95),
        *(("--requests-per-second", limit / 60) if limit else ()),
        *("--burst-seconds", scenario.burst_seconds, "--failure-rate", scenario.failure_rate),
        *("--answer-tokens", round(scenario.output_tokens)),
    ]


def bounds(pairs: dict[str, Pair]) -> list[Bound]:
    """Return the bounds for each forecast."""
    return [
        Bound(f"{name}: {figure} within {NEAR:.0%}", f"{real:,.4g} real, {predicted:,.4g} forecast", pair.holds(figure))
        for name, pair in pairs.items()
        for figure, (real, predicted) in pair.figures().items()
    ]


def main() -> int:
    """Compare, print the table and the bounds, return the exit code."""
    parser = argparse.ArgumentParser(description="Compare forecasts with real runs.")
    parser.add_argument("--only", default="", help="scenarios whose names match this")
    parser.add_argument("--scale", type=float, default=1.0, help="factor for the number of items")
    parser.add_argument("--no-bounds", action="store_true", help="judge nothing")
    options = parser.parse_args()
    pairs: dict[str, Pair] = {}
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batch-llm-prefect-")))
        status = stack.enter_context(Console(stderr=True).status(""))
        server = stack.enter_context(prefect_server(home / "prefect"))
        for name, scenario in SCENARIOS.items():
            if re.search(options.only, name):
                status.update(name)
                scaled = replace(scenario, items=round(scenario.items * options.scale))
                pairs[name] = compare(name, scaled, server)
    columns = [
        "scenario",
        *(f"{figure}{who}" for figure in ("s", "calls", "refused", "MB") for who in ("", " forecast")),
        "CPU per call, ms",
    ]
    show("Runs and their forecasts", columns, [[_row(*each) for each in pairs.items()]])
    return 0 if options.no_bounds else judge(bounds(pairs))


def _row(name: str, pair: Pair) -> list[str]:
    figures = pair.figures()
    shown = (value for each in ("seconds", "calls", "refused", "MB") for value in figures[each])
    return [name, *(f"{value:,.0f}" for value in shown), f"{pair.real.call_seconds * 1000:.1f}"]


if __name__ == "__main__":
    raise SystemExit(main())
