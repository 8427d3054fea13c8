"""The runs of a name beside each other: the trend, and what has drifted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from batch_llm.jobs import PastRun
from batch_llm.jobs.messages import duration, money

from .charts import BLUE, GREEN, ORANGE, RED, Chart, Series, picture
from .markdown import table
from .report import compared

Figure = Callable[[PastRun], float | None]


def trend(nights: Sequence[PastRun]) -> str:
    """Return the picture of runs, the oldest first, and what has drifted."""
    return "\n\n".join(part for part in (compared(nights), _pictures(nights)) if part)


def history(nights: Sequence[PastRun]) -> str:
    """Return the table of runs, the oldest of which comes first here and last there."""
    header = ("run began (UTC)", "answered", "called", "failed", "cost", "1,000 items", "median item", "95 % within",
              "tokens an answer", "took")  # fmt: skip
    return table("Runs", header, [_row(night) for night in reversed(nights)])


def _pictures(nights: Sequence[PastRun]) -> str:
    called = [night for night in nights if night.called]
    if len(called) < 2:
        return ""
    first, last = _moment(called[0]), _moment(called[-1])
    written = "%d %b" if first.date() != last.date() else "%H:%M"
    ends = (first.strftime(written), last.strftime(written))

    def chart(title: str, said: Callable[[float], str], *series: tuple[str, str, Figure]) -> Chart:
        return Chart(
            title, [Series(name, color, [of(night) for night in called]) for name, color, of in series], ends, said
        )

    return picture(
        [
            chart("Cost of 1,000 items", money, ("cost", BLUE, lambda night: night.cost_of_1000)),
            chart("Failed items", "{:.1%}".format, ("failed", RED, lambda night: night.failed_share)),
            chart(
                "Seconds an item took",
                "{:,g}".format,
                ("median", BLUE, lambda night: night.p50_seconds),
                ("95th percentile", ORANGE, lambda night: night.p95_seconds),
            ),
            chart("Output tokens an answer", "{:,g}".format, ("tokens", GREEN, lambda night: night.tokens_an_answer)),
        ]
    )


def _row(night: PastRun) -> tuple[str, ...]:
    tokens, share = night.tokens_an_answer, night.failed_share
    return (
        f"{_moment(night):%Y-%m-%d %H:%M}" + (" (stopped)" if night.stopped else ""),
        f"{night.succeeded:,} of {night.items:,}",
        f"{night.called:,}",
        f"{night.failed:,}" + (f" ({share:.1%})" if share else ""),
        money(night.cost_usd),
        money(night.cost_of_1000) if night.called else "",
        _seconds(night.p50_seconds),
        _seconds(night.p95_seconds),
        f"{tokens:,.0f}" if tokens is not None else "",
        duration(night.seconds),
    )


def _seconds(value: float | None) -> str:
    return f"{value:.2f} s" if value is not None else ""


def _moment(night: PastRun) -> datetime:
    return datetime.fromtimestamp(night.began, UTC)
