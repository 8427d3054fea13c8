"""Expected usage of a job's calls, measured from the records of earlier calls in the ledger."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TypeAlias

from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.ledger.record_views import FINGERPRINT, view_records
from batch_llm.jobs.ledger.records import record_files
from batch_llm.jobs.ledger.run_folder import RunFolder
from batch_llm.jobs.storage.duckdb_session import Tables, execute, file_text
from batch_llm.jobs.storage.store import Store

from .prices import CostOf

LEAST_ITEMS = 10
"""Minimum number of measured items."""

LEAST_FIT = 0.1
"""Minimum share of the variance (R²) that the prompt length must explain to be used."""

Three: TypeAlias = tuple[float, float, float]
"""Lowest, expected and highest value."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Average usage of one item, including failed attempts and repeated calls after invalid answers.

    Attributes:
        input_tokens: Lowest, expected and highest number of input tokens.
        output_tokens: Lowest, expected and highest number of output tokens.
        cached_share: Share of the input tokens that is read from the provider's cache.
        seconds: Duration of an item; None if it is not known.
        text: Description of the data that was used.
    """

    input_tokens: Three
    output_tokens: Three
    cached_share: float
    seconds: float | None
    text: str

    def cost(self, cost_of: CostOf, at: int = 1) -> float | None:
        """Return the cost of an item in USD at its lowest (0), expected (1) or highest (2) usage; None if unpriced."""
        sent, received = self.input_tokens[at], self.output_tokens[at]
        usage = {"input_tokens": sent, "cached_input_tokens": sent * self.cached_share, "output_tokens": received}
        return cost_of(usage)


@dataclass(frozen=True, slots=True)
class _Fit:
    """A token count over items, and its linear regression on the prompt length."""

    items: int
    mean_size: float
    mean: float
    spread: float
    slope: float
    fit: float

    def at(self, size: float) -> Three:
        """Return the expected count for an average prompt of `size` characters."""
        goes_along = self.slope > 0 and self.fit >= LEAST_FIT
        expected = max(0.0, self.mean + (self.slope * (size - self.mean_size) if goes_along else 0.0))
        rest = self.spread * math.sqrt(1 - self.fit) if goes_along else self.spread
        error = 2 * rest / math.sqrt(self.items) + 0.05 * expected
        return max(0.0, expected - error), expected, expected + error


def calibrate(tables: Tables, model: str, planned: RunFolder, size: float) -> Calibration | None:
    """Return the expected usage of a plan's calls; None if there are too few records.

    Preferred are items of this source that were called with the same prompt and model. Otherwise the usage of earlier
    runs of the job's name with this model is scaled by the prompt length.

    Args:
        tables: DuckDB session in which the plan was made.
        model: The job's model.
        planned: Folder of the plan.
        size: Average number of characters of the prompts to be sent.
    """
    mean = _measure(tables, model, planned.runs)
    sizes = f"(SELECT {FINGERPRINT} AS fingerprint, characters AS size FROM {file_text(planned.items)})"
    same = _fits(tables, f"used JOIN {sizes} USING (fingerprint)")
    if same is not None:
        return _calibration(same, size, "items of this source that this job has called before")
    return _by_others(tables, mean, size)


def calibrate_by_earlier_runs(tables: Tables, model: str, runs: Store, size: float) -> Calibration | None:
    """Return the expected usage of a prompt of `size` characters, measured from earlier runs of the job's name.

    Args:
        tables: DuckDB session.
        model: The job's model.
        runs: The ledger folder of the job's name.
        size: Number of characters of the prompt.
    """
    return _by_others(tables, _measure(tables, model, runs), size)


def _measure(tables: Tables, model: str, runs: Store) -> float:
    """Create the table `used` with the usage of each item in one earlier run; return the average prompt length."""
    plans = _plans_of_the_model(model, runs)
    files = [file for file in record_files(runs) if file.partition("/")[0] in plans]
    view_records(tables, runs, files, view="measured", with_run=True)
    # An item that several runs called, by `refresh` or after a failure, is measured by the newest run that
    # answered it.
    execute(
        tables,
        """
        CREATE OR REPLACE TEMP TABLE used AS
        SELECT fingerprint, unnest(max_by(used_in_a_run, row(answered, ended)))
        FROM (
            SELECT fingerprint, max(stamp) AS ended, bool_or(status = 'succeeded') AS answered, struct_pack(
                input_tokens := sum(input_tokens), output_tokens := sum(output_tokens),
                cached := sum(cached_input_tokens), seconds := sum(seconds)
            ) AS used_in_a_run
            FROM measured WHERE attempts > 0 GROUP BY run, fingerprint
        ) GROUP BY fingerprint""",
    )
    return _mean_size(list(plans.values()))


def _by_others(tables: Tables, mean: float, size: float) -> Calibration | None:
    other = _fits(tables, f"(SELECT *, {mean} AS size FROM used)")
    if other is None or not mean:
        return None
    sent, received, cached, seconds = other
    grown = _Fit(sent.items, mean, sent.mean, sent.spread, sent.mean / mean, 1.0)  # in proportion
    return _calibration((grown, received, cached, seconds), size, "items of earlier runs of this name with this model")


_Found: TypeAlias = tuple[_Fit, _Fit, float, float]


def _fits(tables: Tables, source: str) -> _Found | None:
    columns = ", ".join(
        f"avg({name}), coalesce(stddev({name}), 0), coalesce(regr_slope({name}, size), 0), "
        f"coalesce(regr_r2({name}, size), 0)"
        for name in ("input_tokens", "output_tokens")
    )
    query = f"SELECT count(*), avg(size), {columns}, sum(cached) / greatest(sum(input_tokens), 1), avg(seconds)"
    row = execute(tables, f"{query} FROM {source}").fetchone()
    if row is None or row[0] < LEAST_ITEMS:
        return None
    items, size = int(row[0]), float(row[1])
    sent, received = (_Fit(items, size, *(float(value) for value in row[at : at + 4])) for at in (2, 6))
    return sent, received, float(row[10]), float(row[11])


def _calibration(found: _Found, size: float, of_what: str) -> Calibration:
    sent, received, cached, seconds = found
    return Calibration(sent.at(size), received.at(size), cached, seconds, f"{sent.items:,} {of_what}")


def _plans_of_the_model(model: str, runs: Store) -> dict[str, dict[str, float]]:
    """Return the plans of earlier runs with a model by run id."""
    plans = {name.partition("/")[0]: json.loads(runs.read(name) or b"{}") for name in runs.names("*/plan.json")}
    return {run: plan for run, plan in plans.items() if plan.get("model") == model}


def _mean_size(plans: list[dict[str, float]]) -> float:
    """Return the average number of characters of the prompts in plans."""
    calls = sum(plan.get("called", 0) for plan in plans)
    return sum(plan.get("characters", 0) for plan in plans) / calls if calls else 0.0


def guessed_output_tokens(job: BatchJob) -> float:
    """Return the expected output tokens before the first answer: max_tokens of the job, else 1000."""
    most = job.model_settings.get("max_tokens")
    return float(most) if isinstance(most, int | float) and most > 0 else 1000.0
