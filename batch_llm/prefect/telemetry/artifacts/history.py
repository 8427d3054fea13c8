"""History of a job's runs: the trend and what has drifted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from batch_llm.jobs import PastRun
from batch_llm.jobs.messages import duration, latency, money, throughput
from batch_llm.jobs.results.history import full_runs

from .charts import BLUE, GREEN, ORANGE, RED, Chart, Series, picture
from .markdown import table
from .report import compared

Figure = Callable[[PastRun], float | None]


def trend(runs: Sequence[PastRun]) -> str:
    """Return charts of the runs, the oldest first, and what has drifted."""
    return "\n\n".join(part for part in (compared(runs), _pictures(runs)) if part)


def history(runs: Sequence[PastRun]) -> str:
    """Return the tables of runs, the newest first; `runs` has the oldest first.

    There are two tables, because a page cuts off a wide one.
    """
    full = full_runs(runs)
    starts = {run: f"{_moment(run):%Y-%m-%d %H:%M}" + ("" if run in full else " \\*") for run in runs}
    newest = [*reversed(runs)]
    start = "run began (UTC)"
    parts = [
        table("Runs", (start, *_COUNTS), [(starts[run], *_counts(run)) for run in newest]),
        table("Speed and length", (start, *_SPEED), [(starts[run], *_speed(run)) for run in newest]),
    ]
    return "\n\n".join([*parts, *([_PARTIAL] if len(full) < len(runs) else [])])


_COUNTS = ("answered", "called", "failed", "cost", "per 1,000 items", "took")
_SPEED = ("throughput", "latency (median)", "95 %", "tokens per answer")
_PARTIAL = (
    "\\* partial run: it was stopped, was much smaller than the others, or only called failed items again. The charts "
    "and the comparison leave it out."
)


def _pictures(runs: Sequence[PastRun]) -> str:
    called = full_runs(runs)
    if len(called) < 2:
        return ""
    first, last = _moment(called[0]), _moment(called[-1])
    written = "%d %b" if first.date() != last.date() else "%H:%M"
    ends = (first.strftime(written), last.strftime(written))

    def chart(title: str, format_value: Callable[[float], str], *series: tuple[str, str, Figure]) -> Chart:
        return Chart(
            title,
            [Series(name, color, [of(run) for run in called]) for name, color, of in series],
            ends,
            format_value,
        )

    return picture(
        [
            chart("Cost of 1,000 items", money, ("cost", BLUE, lambda run: run.cost_of_1000)),
            chart("Failed items", "{:.1%}".format, ("failed", RED, lambda run: run.failed_share)),
            chart(
                "Latency in seconds",
                "{:,g}".format,
                ("median", BLUE, lambda run: run.call_p50_seconds),
                ("95th percentile", ORANGE, lambda run: run.call_p95_seconds),
            ),
            chart("Output tokens per answer", "{:,g}".format, ("tokens", GREEN, lambda run: run.tokens_an_answer)),
        ]
    )


def _counts(run: PastRun) -> tuple[str, ...]:
    share = run.failed_share
    return (
        f"{run.succeeded:,} of {run.items:,}",
        f"{run.called:,}",
        f"{run.failed:,}" + (f" ({share:.1%})" if share else ""),
        money(run.cost_usd),
        money(run.cost_of_1000) if run.called else "",
        duration(run.seconds),
    )


def _speed(run: PastRun) -> tuple[str, ...]:
    tokens = run.tokens_an_answer
    return (
        throughput(run.items_per_second) if run.items_per_second is not None else "",
        latency(run.call_p50_seconds),
        latency(run.call_p95_seconds),
        f"{tokens:,.0f}" if tokens is not None else "",
    )


def _moment(run: PastRun) -> datetime:
    return datetime.fromtimestamp(run.began, UTC)
