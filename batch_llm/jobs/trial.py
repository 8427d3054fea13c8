"""Trials: real answers for the first rows of a job, which are kept in memory and never in a ledger."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, cast

import duckdb

from batch_llm.errors import JobError
from batch_llm.items import AnyResult, LLMWorkItem
from batch_llm.pacing.governor import Governor
from batch_llm.processor import ParallelBatchProcessor

from .execution.file_descriptors import room_for_calls
from .execution.recorder import record_of
from .job import BatchJob
from .ledger.records import INVALID_INPUT, Record
from .models.factory import check_model, make_strategy
from .models.flex import engine_config
from .planning.items import Item, make_items
from .planning.preflight import check_prompt_varies
from .sources import open_source
from .spending.prices import PriceList, check_lane_price, prices_of
from .storage.duckdb_session import job_error, open_tables
from .storage.scratch import temporary_folder

MOST_ROWS = 100
"""Largest number of rows of a trial: its answers and costs are not recorded."""


@dataclass(frozen=True, slots=True)
class TrialAnswer:
    """Answer of a model to one row.

    Attributes:
        output: The answer; None if the row has only an error.
        error_category: Category of the error; None if there is an answer.
        error: The error; None if there is an answer.
        input_tokens: Input tokens of all attempts.
        output_tokens: Output tokens of all attempts.
        cost_usd: Cost of all attempts in USD; None if the model's price is not known.
        seconds: Duration of the row, including waits and retries.
        attempts: Number of calls.
        finish_reason: Why the answer ended: "stop", "length" at the token limit, ...; None if it is not known.
    """

    output: Any
    error_category: str | None
    error: str | None
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    seconds: float
    attempts: int
    finish_reason: str | None


@dataclass(frozen=True, slots=True)
class Trial:
    """Answers of one model to the first rows of a job.

    Attributes:
        model: Name of the model.
        answers: One answer for each row.
        seconds: Duration of all calls together.
        warnings: Warnings of the provider's client, such as a setting that the model ignores.
    """

    model: str
    answers: tuple[TrialAnswer, ...]
    seconds: float
    warnings: tuple[str, ...] = ()

    @property
    def answered(self) -> int:
        """Number of rows with an answer."""
        return sum(answer.error is None for answer in self.answers)

    @property
    def input_tokens(self) -> int:
        """Input tokens of all calls."""
        return sum(answer.input_tokens for answer in self.answers)

    @property
    def output_tokens(self) -> int:
        """Output tokens of all calls."""
        return sum(answer.output_tokens for answer in self.answers)

    @property
    def cost_usd(self) -> float | None:
        """Cost of all calls in USD; None if the model's price is not known."""
        costs = [answer.cost_usd for answer in self.answers]
        return None if None in costs else sum(cost or 0.0 for cost in costs)

    @property
    def median_seconds(self) -> float | None:
        """Median duration of the rows that were called; None without such rows."""
        called = [answer.seconds for answer in self.answers if answer.attempts]
        return median(called) if called else None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of several models on a field of the answer.

    Attributes:
        same: Number of rows to which all models gave the same value.
        rows: Number of rows that all models answered.
    """

    same: int
    rows: int


def first_items(job: BatchJob) -> list[Item]:
    """Return the first items of a job, up to its limit.

    Raises:
        JobError: The source cannot be read, has no rows, or has no column that the prompt uses.
    """
    with open_tables() as tables, temporary_folder() as folder:
        rows = folder / "rows.parquet"
        source = open_source(tables, job.source, job.encoding)
        check_prompt_varies(job, source)
        try:
            broken = source.stage(rows, job.limit)
            items = list(make_items(tables, job, rows, broken, strategy=""))
        except duckdb.Error as error:
            raise job_error(f"source {job.source!r}", error) from error
    if not items:
        raise JobError(f"source {job.source!r} has no rows")
    return items


def try_model(job: BatchJob, items: Sequence[Item]) -> Trial:
    """Call the job's model for some items. No ledger and no output is read or written.

    Raises:
        JobError: The model cannot be used.

    Example:
        >>> trial = try_model(job, first_items(job))  # doctest: +SKIP
        >>> trial.answers[0].output  # doctest: +SKIP
        'yes'
    """
    check_model(job)
    check_lane_price(job)
    prices = prices_of(job)
    started = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        results = asyncio.run(_call(job, items))
    seconds = round(time.monotonic() - started, 3)
    answers = tuple(_answer(item, results, prices, job) for item in items)
    shown = dict.fromkeys(str(warning.message) for warning in caught if issubclass(warning.category, UserWarning))
    return Trial(job.model, answers, seconds, tuple(shown))


async def _call(job: BatchJob, items: Sequence[Item]) -> dict[str, AnyResult]:
    governor = Governor(job.limits)
    with room_for_calls(job.config) as config:
        fitted = job.model_copy(update={"config": config})
        strategy = make_strategy(fitted, partial(_forward_headers, governor))
        async with ParallelBatchProcessor[Any, Any, str](engine_config(fitted), governor=governor) as processor:
            for item in items:
                if item.prompt is not None:
                    await processor.add_work(LLMWorkItem(str(item.position), strategy, item.prompt, context=item.key))
            batch = await processor.process_all()
    return {result.item_id: result for result in batch.results}


def _forward_headers(governor: Governor, headers: Mapping[str, str]) -> None:
    governor.on_headers(headers, asyncio.get_running_loop().time())


def _answer(item: Item, results: Mapping[str, AnyResult], prices: PriceList, job: BatchJob) -> TrialAnswer:
    result = results.get(str(item.position))
    if result is None:
        return TrialAnswer(None, INVALID_INPUT, item.error, 0, 0, 0.0, 0.0, 0, None)
    record: Record | None = record_of(result, prices, job)
    if record is None:  # another row's error stopped the calls
        return TrialAnswer(None, "not_attempted", result.error, 0, 0, 0.0, 0.0, 0, None)
    return TrialAnswer(
        record.output,
        record.category,
        record.error,
        record.input_tokens,
        record.output_tokens,
        record.cost_usd,
        record.seconds,
        record.attempts,
        record.finish_reason,
    )


def agreement(trials: Sequence[Trial]) -> dict[str, Agreement]:
    """Return how often several models gave the same value, by field of the answer; text is the field "answer".

    Only rows that all models answered are compared. A field that an answer lacks differs from every value.

    Example:
        >>> agreement([first, second])  # doctest: +SKIP
        {'category': Agreement(same=2, rows=3)}
    """
    rows = list(zip(*(trial.answers for trial in trials), strict=True))
    answers = [[fields_of(each.output) for each in row] for row in rows if all(each.error is None for each in row)]
    names = dict.fromkeys(name for row in answers for fields in row for name in fields)
    return {name: Agreement(sum(_is_same(name, row) for row in answers), len(answers)) for name in names}


def _is_same(name: str, row: Sequence[Mapping[str, Any]]) -> bool:
    return all(name in fields and fields[name] == row[0].get(name) for fields in row)


def fields_of(output: Any) -> Mapping[str, Any]:
    """Return the fields of an answer; text is the field "answer"."""
    return cast("Mapping[str, Any]", output) if isinstance(output, dict) else {"answer": output}
