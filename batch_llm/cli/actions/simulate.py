"""`batch-llm simulate`: what a run will take, as a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from batch_llm.cli.presets import find_preset
from batch_llm.cli.terminal.screen import Screen, print_json
from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob
from batch_llm.jobs.planning.preview import count_rows
from batch_llm.simulation import Forecast, Scenario
from batch_llm.simulation import simulate as foretell

LESS = {"limit": "the provider's limit", "cpu": "the CPU", "workers": "the workers and the latency"}
ALMOST = 0.7
"""Of a share that is in use: what is used so far holds the run up."""


@dataclass(frozen=True, slots=True)
class SimulationRequest:
    """What is asked for.

    Attributes:
        preset: Whose settings come first; empty for none.
        items: A row each; none for as many as the preset's source has.
        settings: Fields of a `Scenario`.
    """

    preset: str
    items: list[int]
    settings: dict[str, Any]

    def scenarios(self) -> list[Scenario]:
        """Return a scenario a row.

        Raises:
            JobError: A setting breaks its rule, or there are no items.
        """
        own = {name: self.settings[name] for name in ("model",) if name in self.settings}  # has its own limits
        job = BatchJob.parse(find_preset(self.preset).parameters | own) if self.preset else None
        settings = (_of_job(job) if job else {}) | self.settings
        rows = self.items or ([count_rows(job)] if job else [])
        if not rows:
            raise JobError("nothing to simulate: say how many, such as --items 100000")
        return [Scenario(items, **settings) for items in rows]


def simulate(asked: SimulationRequest, *, for_program: bool = False) -> int:
    """Show what each run will take.

    Raises:
        JobError: As `SimulationRequest.scenarios`.
    """
    scenarios = asked.scenarios()
    with Screen(for_program=True).phase("Simulating"):
        forecasts = [foretell(scenario) for scenario in scenarios]
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
    """Return what a person is told of each forecast, by the name of the row."""
    shown = [_shown(forecast) for forecast in forecasts]
    return {name: [each[name] for each in shown] for name in shown[0]}


def _shown(forecast: Forecast) -> dict[str, str]:
    return {
        "time": duration(forecast.seconds),
        "held up by": _held_up_by(forecast),
        "cost": "unpriced" if forecast.cost_usd is None else money(forecast.cost_usd),
        "calls, of them refused": f"{forecast.calls:,}, {forecast.refused:,}",
        "items that fail": f"{forecast.failed:,}",
        "workers, processes, machines": f"{forecast.max_workers:,}, {forecast.processes:,}, {forecast.machines:,}",
        "memory of a machine": size(forecast.memory_bytes),
        "shards": f"{forecast.shards:,}",
        "Prefect server: memory": size(forecast.server_bytes),
        "Prefect server: requests": f"{forecast.server_requests:,}",
        "Prefect server: events": f"{forecast.server_events:,}",
        "Prefect server: database": size(forecast.database_bytes),
    }


def duration(seconds: float) -> str:
    """Say a time in two figures: 45 s, 12 min, 3.2 h, 2.1 d."""
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 1.5 * length:
            return f"{two_figures(seconds / length)} {unit}"
    return f"{two_figures(seconds)} s"


def size(count: int) -> str:
    """Say a size in two figures: 320 MB, 1.4 GB."""
    return f"{two_figures(count / 1e9)} GB" if count >= 1e9 else f"{two_figures(count / 1e6)} MB"


def money(usd: float) -> str:
    """Say a sum in two figures."""
    return f"${two_figures(usd)}"


def two_figures(value: float) -> str:
    """Say a number in two figures, but not shorter than a whole one: 0.12, 3.4, 57, 1,200."""
    if value <= 0:
        return "0"
    rounded = float(f"{value:.1e}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:.1f}" if rounded >= 1 else f"{rounded:.2g}"


def _held_up_by(forecast: Forecast) -> str:
    used = {"limit": forecast.limit_used or 0.0, "cpu": forecast.cpu_used, "workers": forecast.workers_used}
    most = max(used, key=used.__getitem__)
    return f"{LESS[most]} ({used[most]:.0%} used)" if used[most] >= ALMOST else "pauses and waits"


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
