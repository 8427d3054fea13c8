"""History of a job: its past runs, and the figures of the latest run that have drifted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from batch_llm.jobs.ledger.lease import BEGAN
from batch_llm.jobs.messages import latency, money
from batch_llm.jobs.storage.duckdb_session import Tables, open_tables, text
from batch_llm.jobs.storage.store import Store

MAX_RUNS = 30
MIN_EARLIER_RUNS = 5
"""Earlier runs that are needed to detect a drift; with fewer runs, any difference would count as one."""

_MAD_TO_SIGMA = 1.4826
_SIGMAS = 4.0
_LEAST_SIZE = 0.1
_LEAST_SHARE = 0.1
"""Smallest relative difference that counts as a drift, however similar the earlier runs are."""


@dataclass(frozen=True, slots=True)
class PastRun:
    """Totals of a finished run.

    Attributes:
        run: Id of the run.
        began: Time of the plan, in seconds since the epoch.
        model: Name of the model.
        items: Items of the source.
        called: Items that this run called, without reused answers.
        succeeded: Items with an answer, including reused answers.
        answered: Items that this run answered.
        failed: Items that failed.
        cost_usd: Cost of this run only; None if the price of the model is not known.
        output_tokens: Output tokens of this run only.
        seconds: Seconds from the plan to the end of the merge.
        call_p50_seconds: Median latency; None if nothing was called, or in runs of older versions.
        call_p95_seconds: 95th percentile of the latency.
        items_per_second: Throughput, as in `Summary`.
        stopped: Why the run stopped early; empty if it completed.
        partial: Whether the run did not attempt all items without an answer, or only retried items that had failed.
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
    call_p50_seconds: float | None
    call_p95_seconds: float | None
    items_per_second: float | None
    stopped: str
    partial: bool = False

    @property
    def failed_share(self) -> float | None:
        """Share of the called items that failed; None if nothing was called."""
        return self.failed / self.called if self.called else None

    @property
    def cost_of_1000(self) -> float | None:
        """Cost in USD per 1,000 called items; None if it is not known."""
        return self.cost_usd / self.called * 1000 if self.called and self.cost_usd is not None else None

    @property
    def tokens_an_answer(self) -> float | None:
        """Average output tokens per answer; None if there is no answer."""
        return self.output_tokens / self.answered if self.answered else None


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of a run that is checked for drift.

    Attributes:
        name: Name of the figure, for messages.
        value: Returns the figure of a run; None if the run does not have it.
        least: Smallest absolute difference that counts as a drift.
        format: Formats the figure.
    """

    name: str
    value: Callable[[PastRun], float | None]
    least: float
    format: Callable[[float], str]


MEASURES = (
    Measure("cost per 1,000 items", lambda run: run.cost_of_1000, 0.0, money),
    Measure("share of failed items", lambda run: run.failed_share, 0.005, lambda share: f"{share:.1%}"),
    Measure("95th percentile of the latency", lambda run: run.call_p95_seconds, 0.1, latency),
    Measure("output tokens per answer", lambda run: run.tokens_an_answer, 1.0, lambda tokens: f"{tokens:,.0f}"),
)


def full_runs(runs: Sequence[PastRun]) -> list[PastRun]:
    """Return the runs that are comparable: complete, and not much smaller than the others.

    A run is much smaller if it called less than a tenth of the median number of items of the complete runs.
    """
    complete = [run for run in runs if run.called and not run.partial]
    usual = median(run.called for run in complete) if complete else 0
    return [run for run in complete if run.called >= _LEAST_SIZE * usual]


def drifts(runs: Sequence[PastRun]) -> list[str]:
    """Return a sentence for each figure of the last run that is far from the figures of the earlier runs.

    The usual value is the median of the earlier runs, and the scatter is their median absolute deviation: a single bad
    run changes neither. A figure has drifted if it differs by more than four deviations (scaled to the sigma of a
    normal distribution) and by more than a tenth of the usual value. Only full runs are compared.

    Args:
        runs: The runs, oldest first.
    """
    full = full_runs(runs)
    if not full or full[-1] is not runs[-1]:
        return []
    *earlier, last = full
    found = (_drift(measure, [measure.value(run) for run in earlier], measure.value(last)) for measure in MEASURES)
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
    """Return the totals of the latest finished runs, oldest first.

    Args:
        runs: The ledger folder of the job's name.
        most: Largest number of runs to return.

    Raises:
        OSError: The ledger cannot be read.
        duckdb.Error: A summary or a plan in the ledger cannot be read.

    Example:
        >>> for sentence in drifts(read_past_runs(run_folder(job, run_id).runs)):
        ...     print(sentence)
    """
    ended = [name.partition("/")[0] for name in runs.names("*/summary.json")]
    with open_tables() as tables:
        _view(tables, runs, "summaries", [f"{run}/summary.json" for run in ended], _SUMMARY)
        _view(tables, runs, "plans", [f"{run}/plan.json" for run in ended], _PLAN)
        rows = tables.execute(f"{_PAST_RUNS} LIMIT {most}").fetchall() if ended else []
    return [PastRun(*row) for row in reversed(rows)]


_LARGEST = 16 * 1024 * 1024  # a plan names each shard
_PLAN = {"planned_at": "DOUBLE", "lease": "BIGINT", "model": "VARCHAR"}
_SUMMARY = {
    **dict.fromkeys(("total_items", "succeeded", "failed", "not_attempted", "left_out", "reused", "retried"), "BIGINT"),
    "total_output_tokens": "BIGINT",
    **dict.fromkeys(("cost_usd", "seconds", "call_p50_seconds", "call_p95_seconds"), "DOUBLE"),
    "items_per_second": "DOUBLE",
    "stopped": "VARCHAR",
}
_PAST_RUNS = f"""
    SELECT run, planned_at AS began, coalesce(model, ''), total_items,
        total_items - not_attempted - coalesce(left_out, 0) - reused AS called, succeeded, succeeded - reused, failed,
        cost_usd, total_output_tokens, seconds, call_p50_seconds, call_p95_seconds, items_per_second,
        coalesce(stopped, ''),
        coalesce(stopped <> '', false) OR not_attempted > 0 OR coalesce(left_out, 0) > 0
            OR (reused > 0 AND coalesce(retried, 0) = called)
    FROM summaries JOIN plans USING (run) WHERE planned_at IS NOT NULL AND total_items IS NOT NULL
    ORDER BY {BEGAN} DESC, lease DESC"""


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
