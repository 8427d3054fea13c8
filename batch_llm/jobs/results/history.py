"""A job's runs beside each other, night over night, and what has drifted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from batch_llm.jobs.messages import money
from batch_llm.jobs.storage.duckdb_session import Tables, open_tables, text
from batch_llm.jobs.storage.store import Store

MAX_RUNS = 30
MIN_EARLIER_RUNS = 5
"""So many earlier nights say what is usual; of fewer, any night would stand out."""

_MAD_TO_SIGMA = 1.4826
_SIGMAS = 4.0
_LEAST_SHARE = 0.1
"""What is nearer than this to the usual is no drift, however alike the earlier nights are."""


@dataclass(frozen=True, slots=True)
class PastRun:
    """What a run came to.

    Attributes:
        run: The run's id.
        began: When it was planned, in seconds since the epoch.
        model: What it called.
        items: Items of the source.
        called: Items that this run tried, reused ones left out.
        succeeded: Items with an answer, reused ones included.
        answered: Items that this run answered.
        failed: Items that failed.
        cost_usd: Of this run alone; None where the model's price is not known.
        output_tokens: Of this run alone.
        seconds: From the plan to the end of the merge.
        p50_seconds: Median time of an item; None where nothing was called, or the run is of an older version.
        p95_seconds: 95 % of the items took no longer.
        stopped: Why it ended early; empty when it did not.
    """

    run: str
    began: float
    model: str
    items: int
    called: int
    succeeded: int
    answered: int
    failed: int
    cost_usd: float | None
    output_tokens: int
    seconds: float
    p50_seconds: float | None
    p95_seconds: float | None
    stopped: str

    @property
    def failed_share(self) -> float | None:
        """Failed items out of those that were tried."""
        return self.failed / self.called if self.called else None

    @property
    def cost_of_1000(self) -> float | None:
        """USD for 1,000 items that were tried."""
        return self.cost_usd / self.called * 1000 if self.called and self.cost_usd is not None else None

    @property
    def tokens_an_answer(self) -> float | None:
        """Output tokens for an answer: its length."""
        return self.output_tokens / self.answered if self.answered else None


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of a night that may drift.

    Attributes:
        name: As a person reads it.
        of: Finds it; None where a night has none.
        least: What differs by no more is no drift.
        said: Writes it.
    """

    name: str
    value: Callable[[PastRun], float | None]
    least: float
    format: Callable[[float], str]


MEASURES = (
    Measure("cost of 1,000 items", lambda night: night.cost_of_1000, 0.0, money),
    Measure("share of failed items", lambda night: night.failed_share, 0.005, lambda share: f"{share:.1%}"),
    Measure("95th percentile of an item's time", lambda night: night.p95_seconds, 0.1, lambda time: f"{time:.1f} s"),
    Measure("output tokens an answer", lambda night: night.tokens_an_answer, 1.0, lambda tokens: f"{tokens:,.0f}"),
)


def drifts(nights: Sequence[PastRun]) -> list[str]:
    """Return a sentence for each figure of the last night that is far from what the nights before it had.

    What is usual is their median, how far they scatter their median absolute deviation: one bad night among them
    changes neither. A night drifts by more than four such deviations (scaled to a normal distribution's sigma) and by
    more than a tenth of what is usual.

    Args:
        nights: The oldest first.
    """
    if not nights or not nights[-1].called:
        return []  # nothing was called: nothing could drift
    *earlier, last = (night for night in nights if night.called)
    found = (_drift(measure, [measure.value(night) for night in earlier], measure.value(last)) for measure in MEASURES)
    return [sentence for sentence in found if sentence]


def _drift(measure: Measure, earlier: Sequence[float | None], now: float | None) -> str:
    known = [value for value in earlier if value is not None]
    if now is None or len(known) < MIN_EARLIER_RUNS:
        return ""
    usual = median(known)
    scatter = median(abs(value - usual) for value in known) * _MAD_TO_SIGMA
    if abs(now - usual) <= max(_SIGMAS * scatter, _LEAST_SHARE * usual, measure.least):
        return ""
    change = f" ({now / usual - 1:+.0%})" if usual else ""
    return f"{measure.name} is {measure.format(now)}, usually {measure.format(usual)}{change}"


def read_past_runs(runs: Store, most: int = MAX_RUNS) -> list[PastRun]:
    """Return the latest runs that have ended, the oldest first.

    Args:
        runs: What the runs of a job's name leave.
        most: How many.

    Raises:
        OSError: The ledger cannot be read.
        duckdb.Error: The same.
    """
    ended = [name.partition("/")[0] for name in runs.names("*/summary.json")]
    with open_tables() as tables:
        _view(tables, runs, "summaries", [f"{run}/summary.json" for run in ended], _SUMMARY)
        _view(tables, runs, "plans", [f"{run}/plan.json" for run in ended], _PLAN)
        rows = tables.execute(f"{_NIGHTS} LIMIT {most}").fetchall() if ended else []
    return [PastRun(*row) for row in reversed(rows)]


_LARGEST = 16 * 1024 * 1024  # a plan names each shard
_PLAN = {"planned_at": "DOUBLE", "model": "VARCHAR"}
_SUMMARY = {
    **dict.fromkeys(("total_items", "succeeded", "failed", "not_attempted", "left_out", "reused"), "BIGINT"),
    "total_output_tokens": "BIGINT",
    **dict.fromkeys(("cost_usd", "seconds", "p50_seconds", "p95_seconds"), "DOUBLE"),
    "stopped": "VARCHAR",
}
_NIGHTS = """
    SELECT run, planned_at AS began, coalesce(model, ''), total_items,
        total_items - not_attempted - coalesce(left_out, 0) - reused, succeeded, succeeded - reused, failed, cost_usd,
        total_output_tokens, seconds, p50_seconds, p95_seconds, coalesce(stopped, '')
    FROM summaries JOIN plans USING (run) WHERE planned_at IS NOT NULL AND total_items IS NOT NULL
    ORDER BY began DESC"""


def _view(tables: Tables, runs: Store, view: str, names: list[str], columns: dict[str, str]) -> None:
    if not names:
        return
    files = ", ".join(text(file) for file in runs.for_tables(tables, names))
    types = ", ".join(f"{text(column)}: {text(kind)}" for column, kind in columns.items())
    tables.execute(f"""
        CREATE TEMP VIEW {view} AS
        SELECT * EXCLUDE (filename), parse_filename(parse_dirpath(filename)) AS run
        FROM read_json([{files}], columns={{{types}}}, filename=true, ignore_errors=true, format='newline_delimited',
            maximum_object_size={_LARGEST})""")
