"""Action of `batch-llm estimate` and `run --dry-run`: the expected cost of a run, without calls or a server."""

from __future__ import annotations

from collections.abc import Callable

from batch_llm.cli.presets import Preset
from batch_llm.cli.terminal.screen import Screen, print_json
from batch_llm.jobs import BatchJob
from batch_llm.jobs.messages import duration, money
from batch_llm.jobs.planning.estimate import Estimate, Range, estimate


def show_estimate(preset: Preset, job: BatchJob, *, for_program: bool) -> int:
    """Print the expected items, tokens, cost and time of a run."""
    screen = Screen(for_program=for_program)
    with screen.phase("Counting items"):
        found = estimate(job)
    if for_program:
        print_json({"preset": preset.name, "model": job.model, **found.as_json()})
        return 0
    for name, value in _facts(job, found).items():
        if value:
            screen.print(f"{name:>9}  {value}")
    for warning in found.warnings:
        screen.print(f"  Warning  {warning}")
    return 0


def _facts(job: BatchJob, found: Estimate) -> dict[str, str]:
    spared = {"answered before": found.reused, "left out": found.left_out, "invalid": found.broken}
    parts = [f"{count:,} {what}" for what, count in spared.items() if count]
    cost = "unpriced" if found.cost_usd is None else _shown(found, found.cost_usd, money)
    tokens = [_shown(found, count, "{:,.0f}".format) for count in (found.input_tokens, found.output_tokens)]
    return {
        "model": job.model,
        "items": ", ".join([f"{found.to_answer:,} of {found.items:,} to answer", *parts]),
        "tokens": f"{tokens[0]} in, {tokens[1]} out",
        "cost": f"{cost} ({found.priced_by})" if found.priced_by else cost,
        "time": ""
        if found.seconds is None
        else f"about {duration(found.seconds)}, if the provider is not slower than before",
        "based on": found.calibrated_by,
    }


def _shown(found: Estimate, count: Range, shown: Callable[[float], str]) -> str:
    low, high = shown(count.low), shown(count.high)
    if low == high:
        return low
    return f"{low} to {high}" if found.is_guess else f"{shown(count.expected)} ({low} to {high})"
