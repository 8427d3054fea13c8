"""Shards that wait for their next attempt, without a process and without workers."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from batch_llm.config import RetryConfig
from batch_llm.jobs import BudgetShare, ShardRef
from batch_llm.prefect.retries import can_pass, retry_wait


@dataclass(frozen=True, slots=True)
class ShardRetry:
    """A shard that waits for its next attempt.

    Attributes:
        shard: The shard.
        items: Items that the attempt will call.
        due: Start of the attempt, on the monotonic clock.
        share: Budget share that the shard still holds; None if it needs another one.
    """

    shard: ShardRef
    items: int
    due: float
    share: BudgetShare | None = None


class RetryQueue:
    """Queue of shards that wait for their next attempt, and the number of attempts of each shard.

    Args:
        retry: Number of attempts, and waits between them.
    """

    def __init__(self, retry: RetryConfig) -> None:
        self._retry = retry
        self._attempts = Counter[int]()
        self._waiting: list[ShardRetry] = []

    def attempt(self, shard: ShardRef) -> int:
        """Return the number of the next attempt of a shard, from 1."""
        return self._attempts[shard.index] + 1

    def wait_after(self, shard: ShardRef, result: Any) -> float | None:
        """Return the seconds to wait after an attempt with this result; None if there is no other attempt."""
        return retry_wait(self._retry, self.attempt(shard)) if can_pass(result) else None

    def add(self, shard: ShardRef, wait: float, items: int, share: BudgetShare | None = None) -> None:
        """Queue the next attempt of a shard, in `wait` seconds."""
        self._attempts[shard.index] += 1
        self._waiting.append(ShardRetry(shard, items, time.monotonic() + wait, share))
        self._waiting.sort(key=lambda each: each.due)

    @property
    def due(self) -> ShardRetry | None:
        """The shard that has waited longest since its attempt was due; None if none is due."""
        first = self._waiting[0] if self._waiting else None
        return first if first and first.due <= time.monotonic() else None

    def remove(self, retry: ShardRetry) -> None:
        """Remove a shard whose attempt starts, or that is queued elsewhere."""
        self._waiting.remove(retry)

    def clear(self) -> None:
        """Remove all shards, because the run is stopping."""
        self._waiting.clear()

    def __len__(self) -> int:
        return len(self._waiting)
