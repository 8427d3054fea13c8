"""Estimates of the cost and the duration of a job, without calling a model."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from statistics import mean, pstdev
from typing import Any

import duckdb

from batch_llm.errors import JobError
from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.ledger.run_folder import RunFolder, job_store
from batch_llm.jobs.prompts import cached_context
from batch_llm.jobs.run_types import Plan
from batch_llm.jobs.sources import open_source
from batch_llm.jobs.spending.calibration import Calibration, Three, calibrate, guessed_output_tokens
from batch_llm.jobs.spending.prices import prices_of
from batch_llm.jobs.storage.duckdb_session import Tables, file_text, job_error, open_tables, rows_of
from batch_llm.jobs.storage.json_files import to_json
from batch_llm.jobs.storage.scratch import temporary_folder
from batch_llm.jobs.storage.store import Store
from batch_llm.pacing.token_estimate import TOKENS_PER_CHARACTER

from .items import read_prompt
from .plan import make_plan, sizes_of_calls
from .token_counter import TOKENS_A_CALL, TOKENS_A_MESSAGE, count_tokens, tokenizer_of

SAMPLE = 1000
"""Maximum number of prompts whose tokens are counted."""
_SAMPLE_BYTES = 32 * 1024**2  # counting takes a few seconds

_LEAST_A_CHARACTER, _MOST_A_CHARACTER = 1 / 8, 1 / 2


@dataclass(frozen=True, slots=True)
class Range:
    """An estimated number with its lowest and highest value."""

    low: float
    expected: float
    high: float

    def times(self, factor: float) -> Range:
        """Return the range multiplied by `factor`."""
        return Range(self.low * factor, self.expected * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimated calls, tokens, cost and duration of a run.

    Attributes:
        items: Items of the source, including broken rows.
        broken: Rows that cannot be sent.
        reused: Items with an answer in the ledger.
        left_out: Items that are not called, because only some items were selected.
        to_answer: Items that would be called.
        input_tokens: Input tokens of all calls, including retries at the rate of earlier runs.
        output_tokens: Output tokens of all calls, including retries at the rate of earlier runs.
        cost_usd: Cost in USD; None if the model's price is not known.
        priced_by: Source of the prices.
        calibrated_by: Description of the data that was used.
        is_guess: Whether there are no answers of the model to measure yet.
        seconds: Duration at the job's limits and `max_workers`; None if it is not known.
        warnings: Sentences about possible problems, such as files that the source leaves out.
    """

    items: int
    broken: int
    reused: int
    left_out: int
    to_answer: int
    input_tokens: Range
    output_tokens: Range
    cost_usd: Range | None
    priced_by: str
    calibrated_by: str
    is_guess: bool
    seconds: float | None
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the estimate as a JSON object."""
        return asdict(self)


def estimate(job: BatchJob) -> Estimate:
    """Estimate a job without calling a model, without a server and without writing to the ledger.

    Args:
        job: The job.

    Raises:
        JobError: The job cannot run with these settings.

    Example:
        >>> estimate(job).to_answer  # doctest: +SKIP
        1200
    """
    with open_tables() as tables, temporary_folder() as place:
        folder = RunFolder(place, Store(str(place)), job_store(job))
        try:
            source = open_source(tables, job.source, job.encoding)
            planned = make_plan(job, source, folder)
            warnings = tuple(source.warnings())
            calls, characters = sizes_of_calls(tables, folder)
            size = characters / max(1, calls)
            known = calibrate(tables, job.model, folder, size)
            told = known or _guess(job, size, _count_sample(tables, job, folder) if calls else None)
        except duckdb.Error as error:
            raise job_error(f"source {job.source!r}", error) from error
        except OSError as error:
            raise JobError(f"the job cannot be estimated: {' '.join(str(error).split())}") from error
    return replace(_estimate(job, planned, calls, told, is_guess=known is None), warnings=warnings)


def _count_sample(tables: Tables, job: BatchJob, folder: RunFolder) -> Three | None:
    """Return the input tokens of a call, counted with the model's tokenizer; None if it is not known or installed.

    Instructions are counted with each prompt. How a provider passes a schema to a model is not known: the highest value
    assumes the complete schema, and some repeated calls after invalid answers.
    """
    if not (encoding := tokenizer_of(job.model)):
        return None
    shape = to_json(job.output_schema) if job.output_schema else ""
    counted = count_tokens(encoding, [job.instructions, shape, *_sample(tables, folder)])
    if counted is None:
        return None
    instructions, schema, *prompts = counted
    framed = TOKENS_A_CALL + TOKENS_A_MESSAGE * (2 if job.instructions else 1) + instructions
    error = 2 * (pstdev(prompts) / math.sqrt(len(prompts)))
    sent = mean(prompts) + framed
    return sent - error, sent + schema / 2, sent + error + schema + (sent / 4 if schema else 0.0)


def _sample(tables: Tables, folder: RunFolder) -> Iterator[str]:
    places = rows_of(
        tables,
        f"SELECT starts, ends FROM {file_text(folder.items)} SEMI JOIN {file_text(folder.called)} USING (position) "
        f"ORDER BY hash(position) LIMIT {SAMPLE}",
    )
    left = _SAMPLE_BYTES
    with folder.prompts.open("rb") as prompts:
        for starts, ends in places:
            yield json.loads(read_prompt(prompts, starts, ends))
            left -= ends - starts
            if left < 0:
                return


def _guess(job: BatchJob, size: float, counted: Three | None) -> Calibration:
    """Return a rough guess for a model that has not answered yet."""
    shape = to_json(job.output_schema) if job.output_schema else ""
    sent = size + len(job.instructions) + len(shape) + len(cached_context(job) or "")
    least, most = 1.0, guessed_output_tokens(job)  # tokens of the shortest and of the longest answer
    return Calibration(
        input_tokens=counted or (sent * _LEAST_A_CHARACTER, sent * TOKENS_PER_CHARACTER, sent * _MOST_A_CHARACTER),
        output_tokens=(least, math.sqrt(least * most), most),
        cached_share=0.0,
        seconds=None,
        text=_input_text(job, is_counted=counted is not None)
        + "a guess, because this job has no answers yet: run it with --limit 50, and estimate again",
    )


def _input_text(job: BatchJob, *, is_counted: bool) -> str:
    if is_counted:
        return "input: counted with the model's tokenizer; output: "
    if tokenizer_of(job.model):
        return (
            "input: 2 to 8 characters per token, because the tokenizer of the model is not installed "
            "(pip install 'batch-llm[tokenizers]'); output: "
        )
    return ""


def _estimate(job: BatchJob, planned: Plan, calls: int, known: Calibration, *, is_guess: bool) -> Estimate:
    sent, received = Range(*known.input_tokens), Range(*known.output_tokens)
    prices = prices_of(job)
    usual = prices.cost_at("flex") if job.lane == "flex" else prices.cost
    ends = [known.cost(cost, at) for at, cost in enumerate((usual, usual, prices.cost))]  # at most, flex refuses all
    costs = [end * calls for end in ends if end is not None]
    return Estimate(
        items=planned.total,
        broken=planned.broken,
        reused=planned.reused,
        left_out=planned.left_out,
        to_answer=calls,
        input_tokens=sent.times(calls),
        output_tokens=received.times(calls),
        cost_usd=Range(*costs) if len(costs) == len(ends) else None,
        priced_by=prices.source,
        calibrated_by=known.text,
        is_guess=is_guess,
        seconds=_seconds(job, calls, sent.expected, received.expected, known.seconds),
    )


def _seconds(job: BatchJob, calls: int, sent: float, received: float, each: float | None) -> float | None:
    limits = job.limits
    rates = [
        (1.0, limits.requests_per_minute),
        (sent + received, limits.tokens_per_minute),
        (sent, limits.input_tokens_per_minute),
        (received, limits.output_tokens_per_minute),
    ]
    times = [calls * used / most * 60 for used, most in rates if most is not None]
    times += [] if each is None else [calls * each / job.config.max_workers]
    return max(times, default=None)
