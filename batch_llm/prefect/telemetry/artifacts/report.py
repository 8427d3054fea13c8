"""Report of a run: outcome, failures, cost and drift first, then the details."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from batch_llm.jobs import BatchJob, PastRun, Progress, RunStats, Summary, drifts, scope_of
from batch_llm.jobs.messages import (
    budget_line,
    duration,
    lane_line,
    latency,
    limit,
    money,
    run_sentence,
    throughput,
)
from batch_llm.jobs.results.history import MIN_EARLIER_RUNS, full_runs
from batch_llm.prefect.telemetry.outcome import outcome_of

from .charts import BLUE, GREEN, ORANGE, RED, Chart, Series, picture
from .markdown import MOST_PATH, code, plain, table


def verdict(job: BatchJob, summary: Summary, runs: Sequence[PastRun]) -> str:
    """Return the text above the report, also listed on the page of all reports: outcome, warnings and drift.

    Args:
        job: The job.
        summary: The run's totals.
        runs: Runs of this name, this one last.
    """
    sentence = f"**{outcome_of(job, summary).capitalize()}**: {plain(run_sentence(summary))}"
    warned = [f"**Warning**: {plain(warning)}" for warning in summary.warnings]
    return "\n\n".join(part for part in (sentence, *warned, compared(runs)) if part)


def report(job: BatchJob, summary: Summary, stats: RunStats, progress: Progress) -> str:
    """Return the report of a run as markdown.

    Args:
        job: The job.
        summary: The run's totals.
        stats: Statistics of the run.
        progress: Final progress, with the rate limits.
    """
    parts = [
        _failures(summary, stats),
        _pictures(stats),
        _cost(job, summary),
        _items(job, summary),
        _speed(summary, stats),
        _limit(job, progress),
        _slowest(stats),
        _files(summary, stats),
    ]
    return "\n\n".join(part for part in parts if part)


def compared(runs: Sequence[PastRun]) -> str:
    """Return a text on whether the last run differs from the earlier ones."""
    full = full_runs(runs)
    if not full or full[-1] is not runs[-1]:
        return ""
    before = f"the {len(full) - 1} full runs before"
    if found := drifts(runs):
        return f"**Drift** compared with {before}:\n\n" + "\n".join(f"- {line}" for line in found)
    return f"No drift compared with {before}." if len(full) > MIN_EARLIER_RUNS else ""


def _failures(summary: Summary, stats: RunStats) -> str:
    if not summary.categories:
        return ""
    rows = (
        (plain(category), f"{count:,}", f"{count / summary.total_items:.1%}", code(stats.examples.get(category, "")))
        for category, count in sorted(summary.categories.items(), key=lambda pair: -pair[1])
    )
    return table("Failures", ("category", "items", "share", "for example"), rows)


def _pictures(stats: RunStats) -> str:
    if len(stats.slices) < 2:
        return ""
    ends = ("start", duration(stats.slice_seconds * len(stats.slices)))
    per = "second" if stats.slice_seconds == 1 else duration(stats.slice_seconds)

    def series(name: str, color: str, figure: str) -> Series:
        return Series(name, color, [getattr(part, figure) for part in stats.slices])

    ended = (series("answered", GREEN, "answered"), series("failed", RED, "failed"))
    latencies = (series("median", BLUE, "p50_seconds"), series("95th percentile", ORANGE, "p95_seconds"))
    charts = [Chart(f"Items in each {per}", ended, ends, bars=True), Chart("Latency in seconds", latencies, ends)]
    return "## Over time\n\n" + picture(charts)


def _cost(job: BatchJob, summary: Summary) -> str:
    called = summary.total_items - summary.reused - summary.not_attempted - summary.left_out
    each = None if summary.cost_usd is None or not called else summary.cost_usd / called * 1000
    cached = summary.total_cached_input_tokens / summary.total_input_tokens if summary.total_input_tokens else 0.0
    row = {
        "model": code(job.model),
        "attempts": f"{summary.total_attempts:,}",
        "tokens in": f"{summary.total_input_tokens:,}",
        "cached": f"{cached:.0%}",
        "tokens out": f"{summary.total_output_tokens:,}",
        "cost": f"**{money(summary.cost_usd)}**",
        "1,000 items": money(each) if called else "",
    }
    if summary.reused:
        row["saved by reuse"] = money(summary.saved_usd)
    if summary.total_estimated_tokens:
        row["estimated tokens"] = f"{summary.total_estimated_tokens:,}"
    prices = [f"prices: {summary.priced_by}"] if summary.priced_by else []
    lanes = [f"lanes: {'; '.join(map(lane_line, summary.lanes))}"] if summary.lanes else []
    lines = [*prices, *lanes, *(budget_line(budget) for budget in summary.budgets), *summary.notes]
    return "\n".join([table("Cost", tuple(row), [tuple(row.values())]), "", *(f"- {line}" for line in lines)]).rstrip()


def _items(job: BatchJob, summary: Summary) -> str:
    counts = {
        "in the source": summary.total_items,
        "answered": summary.succeeded,
        "failed": summary.failed,
        "cut off at the token limit": summary.truncated or 0,
        "not attempted": summary.not_attempted,
        "left out": summary.left_out,
        "new": summary.new,
        "changed": summary.changed,
        "tried before": summary.retried,
        "asked again": summary.refreshed,
        "reused": summary.reused,
    }
    shown = {name: count for name, count in counts.items() if count or name in ("in the source", "answered", "failed")}
    return table(f"Items of {code(job.source)}", tuple(shown), [tuple(f"{count:,}" for count in shown.values())])


def _speed(summary: Summary, stats: RunStats) -> str:
    if summary.items_per_second is None:
        return ""
    row = {
        "throughput": throughput(summary.items_per_second),
        "latency (median)": latency(summary.call_p50_seconds),
        "95 %": latency(summary.call_p95_seconds),
        "99 %": latency(summary.call_p99_seconds),
        "waits (median)": latency(summary.wait_p50_seconds),
        "waits (95 %)": latency(summary.wait_p95_seconds),
        "items called again": f"{stats.tried_again:,}",
    }
    note = "Latency is the duration of an item's last call. Waits are the rest of its time: limits, cooldowns, retries."
    return f"{table('Speed', tuple(row), [tuple(row.values())])}\n\n{note}"


def _slowest(stats: RunStats) -> str:
    rows = [
        (code(item.item_id), latency(item.seconds), latency(item.call_seconds), item.attempts) for item in stats.slowest
    ]
    return table("Slowest items", ("item", "with waits", "latency", "attempts"), rows) if rows else ""


def _limit(job: BatchJob, progress: Progress) -> str:
    configured = {
        name.replace("_", " "): f"{value:,.0f}" for name, value in asdict(job.limits).items() if value is not None
    }
    found = "not reached"
    if progress.limit is not None:
        found = f"{limit(progress.limit)} at the end"
        if not configured and not progress.rate_limits:
            found = f"not reached (at most {limit(progress.limit)} were tried)"
    cooldowns = (
        f"{progress.rate_limits:,}, cooldowns of {duration(progress.paused_for)} in total"
        if progress.rate_limits
        else "none"
    )
    return table(
        "Limit",
        ("scope", "in force", "429 responses", *configured),
        [(code(scope_of(job)), found, cooldowns, *configured.values())],
    )


def _files(summary: Summary, stats: RunStats) -> str:
    files = [f"- output: {code(summary.output, MOST_PATH)}"]
    if summary.failures:
        files.append(f"- failures, a source for another run: {code(summary.failures, MOST_PATH)}")
    files.append(f"- all files of the run: {code(str(Path(stats.folder)), MOST_PATH)}")
    return "## Files\n\n" + "\n".join(files)
