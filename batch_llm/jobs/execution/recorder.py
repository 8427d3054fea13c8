"""Each result goes into the ledger before its worker takes the next item."""

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
    """Puts each result into the ledger before its worker takes the next item.

    So no more than `max_workers` answers can be paid for without being on disk, whenever the process is killed.

    Attributes:
        stop: Ends the run, which must not pay for what it cannot keep.
    """

    def __init__(self, ledger: LedgerWriter, tally: ShardTally, prices: PriceList, job: BatchJob) -> None:
        self._ledger, self._tally, self._prices, self._job = ledger, tally, prices, job
        self._error: OSError | None = None
        self.stop: Callable[[], None] = lambda: None

    async def keep(self, result: AnyResult) -> None:
        """Add a result; what cannot be written is told by `check` at the end, for a hook's error ends nothing."""
        record = record_of(result, self._prices, self._job)
        if record is None:
            return
        try:
            await self._ledger.commit(record)
        except OSError as error:
            self._error = error
            self.stop()  # what is in flight may still find room
        else:
            self._tally.add(record)

    def check(self) -> None:
        if self._error is not None:
            raise JobError(
                f"the ledger cannot be written to {self._ledger.place}: {self._error.strerror or self._error}; make "
                "room or give rights, and run it again: what is in the ledger is not paid again"
            ) from self._error


def record_of(result: AnyResult, prices: PriceList, job: BatchJob) -> Record | None:
    """Return what the ledger keeps of a result; nothing of an item that was not attempted."""
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
        category=category,
        error=None if error is None else redact(error),
        retryable=info is not None and info.is_retryable,
        finish_reason=result.finish_reason,
        estimated_tokens=usage.get("estimated_tokens", 0),
        unpriced=prices.missing(usage),
        service_tier=tier_of(usage),
    )
