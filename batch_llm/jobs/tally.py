"""Counts a shard's records: the last one of an item decides what it is, all of them what it cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from batch_llm.errors import ErrorInfo

from .ledger import Record
from .progress import ShardProgress

STOPPED = "stopped"
"""The engine's category for a run that somebody asked to end."""

_NEVER_MORE_THAN = 300  # characters of an error in a sentence


class Tally:
    """What a shard's records add up to; `progress` holds the counts, always up to date."""

    def __init__(self, items: int) -> None:
        self.progress = ShardProgress(items=items)
        self._last: dict[str, Record] = {}
        self._categories = Counter[str]()

    def add(self, record: Record) -> None:
        """Count a record."""
        progress = self.progress
        progress.input_tokens += record.input_tokens
        progress.output_tokens += record.output_tokens
        if progress.cost_usd is not None:
            progress.cost_usd = None if record.cost_usd is None else progress.cost_usd + record.cost_usd
        before = self._last.get(record.id)
        if before is not None:
            if before.finished_at > record.finished_at:
                return
            self._count(before, -1)
        self._count(record, 1)
        # Without the answer: those of a shard would fill the memory.
        self._last[record.id] = Record(
            record.id,
            record.key,
            record.status,
            category=record.category,
            error=record.error,
            retryable=record.retryable,
            finished_at=record.finished_at,
        )

    def last(self, item_id: str, key: str) -> Record | None:
        """Return an item's last record under this key."""
        record = self._last.get(item_id)
        return record if record is not None and record.key == key else None

    def unfinished(self, stopped_by: ErrorInfo | None) -> tuple[ErrorInfo | None, str]:
        """Return why items are left that could still be answered, and the same as a sentence.

        A failed validation is no such reason: the model answered, and more tries are for the engine to decide.
        """
        failed = [record for record in self._last.values() if record.status == "failed"]
        if stopped_by is not None and stopped_by.category == STOPPED:
            return None, ""
        if stopped_by is not None:
            cause = next((record for record in reversed(failed) if record.category == stopped_by.category), None)
            detail = f": {_short(cause)}" if cause else ""
            return replace(stopped_by, is_retryable=False), f"stopped by {stopped_by.category}{detail}"
        left = [record for record in failed if record.retryable and record.category != "validation"]
        if not left:
            return None, ""
        category, count = Counter(record.category or "unknown" for record in left).most_common(1)[0]
        cause = next(record for record in reversed(left) if (record.category or "unknown") == category)
        text = f"{len(left)} of {self.progress.items} items are left, {count} by {category}: {_short(cause)}"
        return ErrorInfo(is_retryable=True, is_rate_limit=category == "rate_limit", category=category), text

    def _count(self, record: Record, sign: int) -> None:
        if record.status == "succeeded":
            self.progress.succeeded += sign
        else:
            self.progress.failed += sign
            self._categories[record.category or "unknown"] += sign
            self.progress.categories = dict(+self._categories)


def _short(record: Record) -> str:
    text = " ".join((record.error or "").split())
    return text if len(text) <= _NEVER_MORE_THAN else f"{text[:_NEVER_MORE_THAN]}..."
