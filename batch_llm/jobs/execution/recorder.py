"""Recording of results in the ledger, before the worker takes the next item."""

from __future__ import annotations

from collections.abc import Callable

from batch_llm.errors import JobError
from batch_llm.items import AnyResult
from batch_llm.jobs.accepted_answers import rejection_reason
from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.ledger.records import LedgerWriter, Record, Status
from batch_llm.jobs.secrets import redact
from batch_llm.jobs.spending.prices import PriceList, tier_of

from .shard_tally import ShardTally


class ResultRecorder:
    """Recorder that writes each result to the ledger before its worker takes the next item.

    If the process is killed, at most `max_workers` answers are billed but not on disk.

    Attributes:
        stop: Callback that stops the run, because a run must not pay for answers that it cannot store.
    """

    def __init__(self, ledger: LedgerWriter, tally: ShardTally, prices: PriceList, job: BatchJob) -> None:
        self._ledger, self._tally, self._prices, self._job = ledger, tally, prices, job
        self._error: OSError | None = None
        self.stop: Callable[[], None] = lambda: None

    async def keep(self, result: AnyResult) -> None:
        """Write a result to the ledger; `check` reports a write error later, because the engine ignores hook errors."""
        record = record_of(result, self._prices, self._job)
        if record is None:
            return
        try:
            await self._ledger.commit(record)
        except OSError as error:
            self._error = error
            self.stop()  # results of calls in flight may still be written
        else:
            self._tally.add(record)

    def check(self) -> None:
        """Raise the error of a failed write.

        Raises:
            JobError: A result could not be written.
        """
        if self._error is not None:
            raise JobError(
                f"the ledger cannot be written to {self._ledger.place}: {self._error.strerror or self._error}; free "
                "disk space or grant permissions, and run again: items in the ledger are not charged again"
            ) from self._error


def record_of(result: AnyResult, prices: PriceList, job: BatchJob) -> Record | None:
    """Return the ledger's record of a result; None for an item that was not attempted."""
    info = result.error_info
    category = None if info is None else info.category
    if category in ("not_attempted", "cancelled"):
        return None
    status: Status = "succeeded" if result.success else "skipped" if category == "skipped" else "failed"
    usage, output, error = result.token_usage, result.output, result.error
    if status == "succeeded" and (reason := rejection_reason(result, job)):
        status, category, output, error = "failed", "validation", None, reason
    return Record(
        id=result.item_id,
        key=str(result.context),
        status=status,
        output=output,
        input_tokens=usage.get("input_tokens", 0),
        output_tokens=usage.get("output_tokens", 0),
        cached_input_tokens=usage.get("cached_input_tokens", 0),
        cost_usd=prices.cost(usage),
        attempts=result.attempts,
        seconds=round(result.duration_seconds, 3),
        call_seconds=round(result.call_seconds, 3),
        category=category,
        error=None if error is None else redact(error),
        retryable=info is not None and info.is_retryable,
        finish_reason=result.finish_reason,
        estimated_tokens=usage.get("estimated_tokens", 0),
        unpriced=prices.missing(usage),
        service_tier=tier_of(usage),
    )
