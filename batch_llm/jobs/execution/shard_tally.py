"""Counts over a shard's records: an item has its success or last failure as status, and costs of all its records."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from batch_llm.errors import ErrorInfo
from batch_llm.jobs.ledger.records import Record
from batch_llm.jobs.ledger.shard_progress import ShardProgress
from batch_llm.jobs.messages import duration
from batch_llm.jobs.provider_messages import provider_first

STOPPED = "stopped"
"""Error category of the engine for a run that was asked to stop."""

_NEVER_MORE_THAN = 300  # characters of an error in a sentence


class ShardTally:
    """Running counts over a shard's records.

    Attributes:
        progress: The current counts.
    """

    def __init__(self, items: int) -> None:
        self.progress = ShardProgress(items=items)
        self._answered: dict[str, str] = {}  # keys by id: plain strings, which the garbage collector does not traverse
        self._failed: dict[str, Record] = {}
        self._categories = Counter[str]()

    def add(self, record: Record) -> None:
        """Count a record; a success overrides failures, and a later failure overrides an earlier one."""
        progress = self.progress
        progress.left = max(0, progress.left - 1)
        progress.input_tokens += record.input_tokens
        progress.output_tokens += record.output_tokens
        if progress.cost_usd is not None:
            progress.cost_usd = None if record.cost_usd is None else progress.cost_usd + record.cost_usd
        if record.id in self._answered:
            return
        if record.status == "succeeded":
            self._answered[record.id] = record.key
            progress.succeeded += 1
            if before := self._failed.pop(record.id, None):
                self._count_failed(before, -1)
            return
        before = self._failed.get(record.id)
        if before is None or before.finished_at <= record.finished_at:
            if before is not None:
                self._count_failed(before, -1)
            self._failed[record.id] = record
            self._count_failed(record, 1)

    def is_settled(self, item_id: str, key: str) -> bool:
        """Return whether an item needs no further call in this shard."""
        failed = self._failed.get(item_id)
        return self._answered.get(item_id) == key or (failed is not None and failed.key == key and failed.settled)

    def begin_attempt(self) -> None:
        """Set the number of items that the attempt has to finish; `add` counts it down."""
        settled = sum(record.settled for record in self._failed.values())
        self.progress.left = self.progress.items - len(self._answered) - settled

    @property
    def retryable(self) -> list[Record]:
        """Last failures of the items that another attempt of the shard could answer.

        Failed validations are left out: the model answered, and the engine has used its own retries.
        """
        failed = (record for record in self._failed.values() if record.status == "failed")
        return [record for record in failed if record.retryable and record.category != "validation"]

    def unfinished(self, stopped_by: ErrorInfo | None) -> tuple[ErrorInfo | None, str]:
        """Return why the shard has unfinished items, as error information and as a sentence."""
        failed = [record for record in self._failed.values() if record.status == "failed"]
        if stopped_by is not None and stopped_by.category == STOPPED:
            return None, ""
        if stopped_by is not None:
            cause = next((record for record in reversed(failed) if record.category == stopped_by.category), None)
            detail = f": {_short(cause)}" if cause else ""
            return replace(
                stopped_by, is_retryable=False
            ), f"stopped by {stopped_by.category}{detail}{_full_again(stopped_by)}"
        left = self.retryable
        if not left:
            return None, ""
        category, count = Counter(record.category or "unknown" for record in left).most_common(1)[0]
        cause = next(record for record in reversed(left) if (record.category or "unknown") == category)
        text = f"{len(left)} of {self.progress.items} items are unfinished, {count} due to {category}: {_short(cause)}"
        return ErrorInfo(is_retryable=True, is_rate_limit=category == "rate_limit", category=category), text

    def _count_failed(self, record: Record, sign: int) -> None:
        self.progress.failed += sign
        self._categories[record.category or "unknown"] += sign
        self.progress.categories = dict(+self._categories)


def _full_again(info: ErrorInfo) -> str:
    if info.resets_in is None:
        return ""
    reset = duration(info.resets_in)
    return f"; the limit resets in {reset}: run again then, or set daily_limit to 'wait'"


def _short(record: Record) -> str:
    text = " ".join(provider_first(record.error or "").split())
    return text if len(text) <= _NEVER_MORE_THAN else f"{text[:_NEVER_MORE_THAN]}..."
