"""Execution of one shard: its items are called by the engine and each result is recorded in the ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from batch_llm.errors import ErrorInfo, RunStopped
from batch_llm.items import AnyResult, AnyWorkItem, LLMWorkItem
from batch_llm.jobs.budget_types import BudgetShare, Spent
from batch_llm.jobs.daily_limits import ResetAwareClassifier, ResetAwareCooldown
from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.ledger.records import LedgerWriter, read_records
from batch_llm.jobs.ledger.remote_run import publish_progress, shard_file
from batch_llm.jobs.ledger.run_folder import RunFolder, open_folder
from batch_llm.jobs.models.factory import make_strategy
from batch_llm.jobs.models.flex import engine_config
from batch_llm.jobs.run_types import ShardOutcome, ShardRef
from batch_llm.jobs.spending.budgeted_pacer import BudgetedPacer
from batch_llm.jobs.spending.prices import PriceList, prices_of
from batch_llm.jobs.storage.json_files import read_lines, read_object
from batch_llm.observers.base import BaseObserver, ProcessingEvent, ProcessorObserver
from batch_llm.pacing.governor import Governor
from batch_llm.processor import ParallelBatchProcessor
from batch_llm.rate_limit import built_in
from batch_llm.strategies.base import LLMCallStrategy

from .file_descriptors import room_for_calls, too_few_files
from .missing_usage import UsageEstimatingStrategy, UsageWarning
from .recorder import ResultRecorder
from .shard_tally import ShardTally
from .shard_watch import ShardWatch

_WRITE_SECONDS, _CANARY_WRITE_SECONDS = 0.5, 0.1
"""Seconds between two writes of the progress. All other shards wait for the progress of a canary."""

StrategyFactory = Callable[[], LLMCallStrategy[Any]]


async def run_shard(
    job: BatchJob,
    folder: str,
    shard: ShardRef,
    *,
    observers: Sequence[ProcessorObserver] = (),
    strategy: StrategyFactory | None = None,
    governor: Governor | None = None,
    share: BudgetShare | None = None,
) -> ShardOutcome:
    """Call the items of a shard that have no answer yet.

    Args:
        job: The job.
        folder: Folder of the run, from the plan.
        shard: The shard.
        observers: Observers that receive the engine's events.
        strategy: Function that creates the strategy in this process; None for the job's model.
        governor: Governor that paces the calls; None for a new one with the job's limits.
        share: Share of the budget for all calls of the shard; None for no budget.

    Raises:
        JobError: The job's model cannot be used in this process, or the ledger cannot be written.

    Example:
        >>> planned = plan(job, "first")  # doctest: +SKIP
        >>> outcome = await run_shard(job, planned.folder, planned.shards[0])  # doctest: +SKIP
    """
    run = open_folder(job, folder)
    started = time.monotonic()
    tally = ShardTally(shard.items)
    tally.progress.resume_from(run.path, shard.index)
    for record in read_records(run.store, shard.part):
        tally.add(record)
    governor = governor or Governor(job.limits)
    # An API key that got answers before, in this run or an earlier one, is valid: rejection of one row is not fatal.
    earlier = read_object(run.plan)
    is_canary = shard.index == 0 and bool(earlier.get("canary", {}).get("items"))
    tally.begin_attempt()
    governor.state.has_answered |= bool(tally.progress.succeeded or earlier.get("answered") or earlier.get("reused"))
    stopped_by: ErrorInfo | None = None
    prices = prices_of(job, own_strategy=strategy is not None)
    budgeted_pacer = BudgetedPacer(governor, share, _spent(tally), prices.cost) if share and share.is_bounded else None
    if problem := too_few_files(job.config):
        run.warn(problem)
    if not run.stop.exists():
        with room_for_calls(job.config) as config, LedgerWriter(run.store, shard.part) as ledger:
            fitted = job.model_copy(update={"config": config})
            on_headers = partial(_forward_headers, governor)
            own = partial(make_strategy, fitted, on_headers, run.server_facts)
            make = partial(_with_usage, strategy) if strategy else own
            items = _unanswered(run, shard, tally, make)
            pace = _PaceProgress(governor, tally)
            every = _CANARY_WRITE_SECONDS if is_canary else _WRITE_SECONDS
            attempt = _ShardAttempt(fitted, run, shard, tally, ledger, pace, budgeted_pacer, every)
            stopped_by = await attempt.answer(items, prices, observers)
    tally.progress.finished, tally.progress.left = True, 0
    tally.progress.write(run.path, shard.index)
    with suppress(OSError):  # progress is only displayed
        await asyncio.to_thread(publish_progress, run, shard)
    outcome = _outcome(shard, tally, time.monotonic() - started, stopped_by, stopped=run.stop.exists())
    return (
        outcome
        if budgeted_pacer is None
        else replace(outcome, wanting=budgeted_pacer.wanting, estimate=budgeted_pacer.estimate)
    )


def _spent(tally: ShardTally) -> Spent:
    progress = tally.progress
    return Spent(progress.cost_usd or 0.0, progress.input_tokens + progress.output_tokens)


def _forward_headers(governor: Governor, headers: Mapping[str, str]) -> None:
    governor.on_headers(headers, asyncio.get_running_loop().time())


def _with_usage(strategy: StrategyFactory) -> LLMCallStrategy[Any]:
    return UsageEstimatingStrategy(strategy())


def _unanswered(run: RunFolder, shard: ShardRef, tally: ShardTally, make: StrategyFactory) -> Iterator[AnyWorkItem]:
    strategy: LLMCallStrategy[Any] | None = None
    for line in read_lines(shard_file(run, shard)):
        if not tally.is_settled(line["id"], line["key"]):
            strategy = strategy or make()  # created when needed: a local model takes seconds to load
            yield LLMWorkItem(line["id"], strategy, line["prompt"], context=line["key"])


class _PaceProgress:
    """The governor, and what the shard's progress tells of it: what was met since the shard began, in all its tries."""

    def __init__(self, governor: Governor, tally: ShardTally) -> None:
        status, progress = governor.status(), tally.progress
        self.governor = governor
        self._tally = tally
        self._rate_limits_before = progress.rate_limits - status.episodes
        self._paused_before = progress.paused_for - status.paused_seconds

    def note(self) -> None:
        status, progress = self.governor.status(), self._tally.progress
        progress.limit, progress.is_limited = status.rate, status.is_limited
        progress.rate_limits = self._rate_limits_before + status.episodes
        progress.paused_for = self._paused_before + status.paused_seconds


@dataclass(frozen=True, slots=True)
class _ShardAttempt:
    """One attempt to run a shard."""

    job: BatchJob
    run: RunFolder
    shard: ShardRef
    tally: ShardTally
    ledger: LedgerWriter
    pace: _PaceProgress
    budgeted_pacer: BudgetedPacer | None
    write_seconds: float

    async def answer(
        self, items: Iterator[AnyWorkItem], prices: PriceList, observers: Sequence[ProcessorObserver]
    ) -> ErrorInfo | None:
        """Call the items and return the error that stopped the attempt early, if any."""
        pauses = _PauseObserver(self)
        recorder = ResultRecorder(self.ledger, self.tally, prices, self.job)
        usage = UsageWarning(self.run.store)
        shard_watch = ShardWatch(self.run, self.shard)

        async def keep(result: AnyResult) -> None:
            await recorder.keep(result)
            await usage.note(result.token_usage.get("estimated_tokens", 0))
            if shard_watch.is_late and await shard_watch.is_over():
                processor.stop()

        pacer = self.budgeted_pacer or self.pace.governor
        processor = ParallelBatchProcessor[Any, Any, str](
            engine_config(self.job), keep, observers=[*observers, pauses], governor=pacer, **_at_daily_limits(self.job)
        )
        async with processor:
            recorder.stop = processor.stop
            if self.budgeted_pacer is not None:
                self.budgeted_pacer.stop = processor.stop
            beside = [shard_watch.supervise(self.ledger, processor.stop), self._write_changes()]
            tasks = [asyncio.create_task(each) for each in beside]
            try:
                async with aclosing(processor.process_stream(items)) as results:
                    with suppress(RunStopped):  # after the last result; `stopped_by` tells the same
                        async for _ in results:
                            pass  # `keep` records it
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            for task in tasks:
                if not task.cancelled():
                    task.result()
            recorder.check()
            self.pace.note()
            return processor.stopped_by

    async def _write_changes(self) -> None:
        """Write the progress of the shard whenever it has changed, also while nothing but a slow item is left."""
        progress, written = self.tally.progress, None
        while True:
            if (counts := (progress.succeeded, progress.failed, progress.left)) != written:
                self.write_progress()
                written = counts
            await asyncio.sleep(self.write_seconds)

    def write_progress(self) -> None:
        """Write the progress of the shard to its file."""
        self.pace.note()
        self.tally.progress.write(self.run.path, self.shard.index)


def _at_daily_limits(job: BatchJob) -> dict[str, Any]:
    """Return the processor arguments that make it wait for a daily limit to reset, if the job is configured so."""
    if job.daily_limit == "stop":
        return {}
    cooldown = ResetAwareCooldown(built_in(job.config.rate_limit, is_governed=True))
    return {"error_classifier": ResetAwareClassifier(), "rate_limit_strategy": cooldown}


class _PauseObserver(BaseObserver):
    """Observer that writes a cooldown to the shard's progress, because no result arrives during a cooldown."""

    def __init__(self, shard: _ShardAttempt) -> None:
        self._shard = shard

    async def on_event(self, event: ProcessingEvent, data: dict[str, Any]) -> None:
        if event is ProcessingEvent.RATE_LIMIT_HIT:
            self._shard.tally.progress.paused_until = time.time() + float(data["pause"])
            self._shard.write_progress()


def _outcome(
    shard: ShardRef, tally: ShardTally, seconds: float, stopped_by: ErrorInfo | None, *, stopped: bool
) -> ShardOutcome:
    unfinished, text = tally.unfinished(stopped_by)
    progress = tally.progress
    return ShardOutcome(
        index=shard.index,
        items=shard.items,
        succeeded=progress.succeeded,
        failed=progress.failed,
        not_attempted=shard.items - progress.succeeded - progress.failed,
        input_tokens=progress.input_tokens,
        output_tokens=progress.output_tokens,
        cost_usd=progress.cost_usd,
        seconds=round(seconds, 3),
        categories=progress.categories,
        unfinished=unfinished,
        unfinished_text=text,
        left=len(tally.retryable) if unfinished and unfinished.is_retryable else 0,
        stopped=stopped,
    )
