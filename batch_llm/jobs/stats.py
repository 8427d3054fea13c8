"""How a run went, out of its ledger: speed, latency, an example of each kind of failure."""

from __future__ import annotations

from dataclasses import dataclass, field

from .folder import open_folder
from .job import BatchJob
from .ledger import record_files, view_records
from .tables import open_tables, text


@dataclass(frozen=True, slots=True)
class RunStats:
    """Figures of the calls that one run made; items reused from earlier runs do not count.

    Attributes:
        folder: The run's folder.
        items_per_second: From the first answer's start to the last one's end.
        p50_seconds: Median time of an item, waits and retries included.
        p95_seconds: 95 % of the items took no longer.
        p99_seconds: 99 % of the items took no longer.
        calls_per_item: 1.0 where nothing was tried twice.
        slowest: Item, seconds and attempts of the slowest items.
        examples: One error text for each category of failures.
    """

    folder: str
    items_per_second: float = 0.0
    p50_seconds: float = 0.0
    p95_seconds: float = 0.0
    p99_seconds: float = 0.0
    calls_per_item: float = 0.0
    slowest: list[tuple[str, float, int]] = field(default_factory=list[tuple[str, float, int]])
    examples: dict[str, str] = field(default_factory=dict[str, str])


_FIGURES = """
    SELECT count(*) / greatest(epoch(max(ended) - min(ended - to_milliseconds(CAST(seconds * 1000 AS BIGINT)))), 0.001),
           quantile_cont(seconds, [0.5, 0.95, 0.99]), avg(attempts)
    FROM (SELECT *, finished_at AS ended FROM calls)
"""
_SLOWEST = "SELECT id, round(seconds, 2), attempts FROM calls ORDER BY seconds DESC, id LIMIT 5"
_EXAMPLES = """
    SELECT error_category, left(any_value(error), 500) FROM outcomes
    WHERE status = 'failed' AND error IS NOT NULL GROUP BY error_category
"""


def run_stats(job: BatchJob, folder: str) -> RunStats:
    """Return the figures of a run that is merged."""
    run = open_folder(job, folder)
    with open_tables() as tables:
        view_records(tables, run.kept, record_files(run.kept, "ledger/*.jsonl"))
        # A table, not a view: the files are parsed once.
        wanted = "id, attempts, seconds, finished_at"
        tables.execute(f"CREATE TEMP TABLE calls AS SELECT {wanted} FROM records WHERE attempts > 0")
        tables.execute(f"CREATE TEMP VIEW outcomes AS FROM {text(run.outcomes)}")
        examples = {str(category): str(error) for category, error in tables.execute(_EXAMPLES).fetchall()}
        figures = tables.execute(_FIGURES).fetchone()
        if figures is None or figures[1] is None:
            return RunStats(folder, examples=examples)
        rate, (median, p95, p99), calls = figures
        slowest = [(str(item), float(took), int(tries)) for item, took, tries in tables.execute(_SLOWEST).fetchall()]
        return RunStats(folder, rate, median, p95, p99, calls, slowest, examples)
