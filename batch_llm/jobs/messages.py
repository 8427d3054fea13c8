"""One-sentence messages about plans, shards, budgets and runs."""

from __future__ import annotations

import math
from typing import Any

from .budget_types import BudgetStatus
from .run_types import Canary, Plan, ShardOutcome, Summary


def money(cost_usd: float | None) -> str:
    """Return a cost as text: with cents, such as "$3.60", and below one dollar with three significant digits.

    Example:
        >>> money(0.0106658), money(None)
        ('$0.0107', 'unpriced')
    """
    if cost_usd is None:
        return "unpriced"
    rounded = float(f"{cost_usd:.3g}")
    if not 0 < rounded < 1:
        return f"${cost_usd:,.2f}"
    return f"${rounded:.{2 - math.floor(math.log10(rounded))}f}"  # not "9.1e-05"


def throughput(per_second: float) -> str:
    """Return a rate in items per second, or per minute if it is below one."""
    if per_second >= 1:
        return f"{per_second:,.0f} items/s" if per_second >= 100 else f"{per_second:.1f} items/s"
    return f"{60 * per_second:.1f} items/min"


def latency(seconds: float | None) -> str:
    """Return the duration of calls or waits as text; empty if it is not known."""
    return "" if seconds is None else f"{seconds:,.2f} s"


def speed_line(summary: Summary) -> str:
    """Return the throughput and the latency of a run in one line; empty if it called nothing."""
    if summary.items_per_second is None:
        return ""
    return (
        f"{throughput(summary.items_per_second)}, latency {latency(summary.call_p50_seconds)} (median), "
        f"{latency(summary.call_p95_seconds)} (95 %), waits {latency(summary.wait_p50_seconds)} (median), "
        f"{latency(summary.wait_p95_seconds)} (95 %)"
    )


def duration(seconds: float) -> str:
    """Return a duration as text, in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def limit(per_second: float) -> str:
    """Return a rate limit as text: calls per minute, or calls per hour for low limits."""
    return f"{per_second * 60:,.0f} calls/min" if per_second >= 0.1 else f"{per_second * 3600:,.0f} calls/h"


def failures(categories: dict[str, int]) -> str:
    """Return failures by category, most frequent first."""
    return ", ".join(f"{count:,} {name}" for name, count in sorted(categories.items(), key=lambda pair: -pair[1]))


def budget_line(budget: dict[str, Any]) -> str:
    """Return how much of a budget in a summary is spent."""
    amount = money if budget["unit"] == "usd" else "{:,.0f} tokens".format
    when = "" if budget["scope"] == "run" else " this month"
    return f"{budget['setting']}: {amount(budget['spent'])} of {amount(budget['budget'])} spent{when}"


def lane_line(lane: dict[str, Any]) -> str:
    """Return what a lane in a summary answered and cost."""
    saved = f" (saved {money(lane['saved_usd'])})" if lane["saved_usd"] else ""
    return f"{lane['lane']} {lane['items']:,} items, {money(lane['cost_usd'])}{saved}"


def budget_sentence(limit: BudgetStatus) -> str:
    """Return a message that a budget is used up, and what to do."""
    amount = money if limit.unit == "usd" else "{:,.0f} tokens".format
    when = "" if limit.scope == "run" else " this month"
    return (
        f"{limit.setting} of {amount(limit.budget)} is used up ({amount(limit.spent)} spent{when}): raise it and run "
        "again to continue; finished items are not charged again"
    )


def canary_sentence(canary: Canary, outcome: ShardOutcome, threshold: float) -> str:
    """Return why the canary stops the run and what to do; empty if the run may continue."""
    first = f"the canary of {canary.items:,} items"
    then = "so no other item was called: look at its"
    if canary.too_many_failed(outcome.failed, threshold):
        return (
            f"{outcome.failed:,} failed of {first} ({failures(outcome.categories)}), more than "
            f"failure_threshold={threshold:g} allows, {then} failures, then change the job, or set canary=0 or a "
            "higher failure_threshold"
        )
    if canary.too_expensive(outcome.cost_usd):
        return (
            f"{first} cost {money(outcome.cost_usd)}, but {money(canary.cost_usd)} was expected from earlier runs, "
            f"{then} answers, then change the job, or set canary=0"
        )
    return ""


def plan_sentence(planned: Plan) -> str:
    """Return a summary of what a plan will call and reuse."""
    missing = sum(shard.items for shard in planned.shards)
    parts = [f"{planned.total:,} items: {missing:,} to answer in {len(planned.shards):,} shard(s)"]
    if planned.canary.items:
        parts.append(f"the first {planned.canary.items:,} as a canary")
    if planned.changed:
        parts.append(f"{planned.changed:,} changed")
    if planned.retried:
        parts.append(f"{planned.retried:,} retried after earlier failures")
    if planned.refreshed:
        parts.append(f"{planned.refreshed:,} refreshed")
    if planned.reused:
        parts.append(f"{planned.reused:,} reused from earlier runs")
    if planned.broken:
        parts.append(f"{planned.broken:,} unreadable")
    return ", ".join(parts)


def shard_sentence(outcome: ShardOutcome) -> str:
    """Return a summary of a shard's outcome."""
    parts = [f"{outcome.succeeded:,} answered"]
    if outcome.failed:
        parts.append(f"{outcome.failed:,} failed ({failures(outcome.categories)})")
    if outcome.not_attempted:
        parts.append(f"{outcome.not_attempted:,} not attempted")
    return ", ".join(parts)


def run_sentence(summary: Summary) -> str:
    """Return a summary of a run's totals."""
    parts = [f"{summary.succeeded:,} of {summary.total_items:,} answered"]
    known = {name: getattr(summary, name) for name in ("new", "changed", "retried", "refreshed", "reused")}
    if known["new"] < summary.total_items:
        parts += [f"{count:,} {what}" for what, count in known.items() if count]
    if summary.failed:
        parts.append(f"{summary.failed:,} failed ({failures(summary.categories)})")
    elif len(parts) > 1:
        parts.append("0 failed")
    if summary.truncated:
        parts.append(f"{summary.truncated:,} cut off at the token limit")
    if summary.not_attempted:
        parts.append(f"{summary.not_attempted:,} not attempted")
    if summary.left_out:
        parts.append(f"{summary.left_out:,} left out, because only some items were selected")
    saved = f" (saved {money(summary.saved_usd)})" if summary.saved_usd else ""
    parts += [money(summary.cost_usd) + saved, duration(summary.seconds)]
    sentence = ", ".join(parts)
    if summary.kept:
        sentence += (
            f"; {summary.kept} was not replaced, because this run is not complete: its rows are in {summary.output}"
        )
    return f"{sentence}; {summary.stopped}" if summary.stopped else sentence
