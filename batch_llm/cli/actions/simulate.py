"""Action of `batch-llm simulate`: print the forecast of a run as a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from batch_llm.cli.presets import find_preset
from batch_llm.cli.terminal.screen import Screen, print_json
from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob
from batch_llm.jobs.messages import money
from batch_llm.jobs.planning.preview import count_rows
from batch_llm.simulation import Forecast, Scenario, simulate

BOTTLENECKS = {"limit": "the provider's limit", "cpu": "the CPU", "workers": "the workers and the latency"}
BOTTLENECK_SHARE = 0.7
"""Share of a resource in use from which it counts as the bottleneck."""


@dataclass(frozen=True, slots=True)
class SimulationRequest:
    """Settings of a simulation.

    Attributes:
        preset: Preset whose settings are the defaults; empty for none.
        items: Numbers of items to compare; empty for the number in the preset's source.
        settings: Fields of a `Scenario` that override the preset.
    """

    preset: str
    items: list[int]
    settings: dict[str, Any]

    def scenarios(self) -> list[Scenario]:
        """Return one scenario for each number of items.

        Raises:
            JobError: A setting is invalid, or the number of items is unknown.
        """
        own = {name: self.settings[name] for name in ("model",) if name in self.settings}  # has its own limits
        job = BatchJob.parse(find_preset(self.preset).parameters | own) if self.preset else None
        settings = (_of_job(job) if job else {}) | self.settings
        rows = self.items or ([count_rows(job)] if job else [])
        if not rows:
            raise JobError("nothing to simulate: set the number of items, such as --items 100000")
        return [Scenario(items, **settings) for items in rows]


def print_forecasts(request: SimulationRequest, *, for_program: bool = False) -> int:
    """Print the forecast of each scenario.

    Raises:
        JobError: A setting is invalid, or the number of items is unknown.
    """
    scenarios = request.scenarios()
    with Screen(for_program=True).phase("Simulating"):
        forecasts = [simulate(scenario) for scenario in scenarios]
    if for_program:
        for forecast in forecasts:
            print_json(asdict(forecast))
        return 0
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for forecast in forecasts:
        table.add_column(f"{forecast.items:,} items", justify="right")
    for name, cells in rows(forecasts).items():
        table.add_row(name, *cells)
    Screen().out.print(table)
    return 0


def rows(forecasts: list[Forecast]) -> dict[str, list[str]]:
    """Return the table of forecasts: label of the row to one cell for each forecast."""
    shown = [_shown(forecast) for forecast in forecasts]
    return {name: [each[name] for each in shown] for name in shown[0]}


def _shown(forecast: Forecast) -> dict[str, str]:
    return {
        "time": duration(forecast.seconds),
        "bottleneck": _bottleneck(forecast),
        "cost": rounded_money(forecast.cost_usd),
        "calls, rate-limited calls": f"{forecast.calls:,}, {forecast.refused:,}",
        "failed items": f"{forecast.failed:,}",
        "workers, processes, machines": f"{forecast.max_workers:,}, {forecast.processes:,}, {forecast.machines:,}",
        "memory per machine": size(forecast.memory_bytes),
        "shards": f"{forecast.shards:,}",
        "Prefect server: memory": size(forecast.server_bytes),
        "Prefect server: requests": f"{forecast.server_requests:,}",
        "Prefect server: events": f"{forecast.server_events:,}",
        "Prefect server: database": size(forecast.database_bytes),
    }


def duration(seconds: float) -> str:
    """Return a time with two digits: 45 s, 12 min, 3.2 h, 2.1 d."""
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 1.5 * length:
            return f"{two_figures(seconds / length)} {unit}"
    return f"{two_figures(seconds)} s"


def size(count: int) -> str:
    """Return a size with two digits: 320 MB, 1.4 GB."""
    return f"{two_figures(count / 1e9)} GB" if count >= 1e9 else f"{two_figures(count / 1e6)} MB"


def rounded_money(usd: float | None) -> str:
    """Return an amount of money: from one dollar on with two digits, because it is a forecast."""
    return money(usd) if usd is None or usd < 1 else f"${two_figures(usd)}"


def two_figures(value: float) -> str:
    """Return a number with two significant digits, integers in full: 0.12, 3.4, 57, 1,200."""
    if value <= 0:
        return "0"
    rounded = float(f"{value:.1e}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:.1f}" if rounded >= 1 else f"{rounded:.2g}"


def _bottleneck(forecast: Forecast) -> str:
    used = {"limit": forecast.limit_used or 0.0, "cpu": forecast.cpu_used, "workers": forecast.workers_used}
    most = max(used, key=used.__getitem__)
    return f"{BOTTLENECKS[most]} ({used[most]:.0%} used)" if used[most] >= BOTTLENECK_SHARE else "startup and waits"


def _of_job(job: BatchJob) -> dict[str, Any]:
    return {
        **asdict(job.limits),
        "model": job.model,
        "max_workers": job.config.max_workers,
        "processes": job.runner_options.processes,
        "shard_size": job.shard_size,
        "canary": job.canary,
        "prices": job.prices,
        "config": job.config,
        "shard_retry": job.shard_retry,
    }
