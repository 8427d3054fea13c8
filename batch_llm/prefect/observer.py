"""The engine's events of one shard as Prefect events, few enough for the server."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from batch_llm.jobs import ShardRef
from batch_llm.observers.base import BaseObserver, ProcessingEvent

from .events import RunEvents

BURST = 5
"""Failed items that a shard reports at once."""

SECONDS_BETWEEN = 10.0
"""After the burst, one failed item is reported in so many seconds; the next report tells how many were left out."""


class PrefectObserver(BaseObserver):
    """Reports failed items and rate limits of a shard to Prefect.

    Attributes:
        left_out: Failed items since the last report that were not reported.
    """

    def __init__(self, events: RunEvents, shard: ShardRef, clock: Callable[[], float] = time.monotonic) -> None:
        self.left_out = 0
        self._events = events
        self._shard = shard
        self._clock = clock
        self._budget = float(BURST)
        self._counted_at = clock()

    async def on_event(self, event: ProcessingEvent, data: dict[str, Any]) -> None:
        """Pass on what a person would act on."""
        match event:
            case ProcessingEvent.ITEM_FAILED:
                self._item_failed(data)
            case ProcessingEvent.RATE_LIMIT_HIT:
                self._events.emit(
                    "rate-limit.hit",
                    {
                        "shard": self._shard.index,
                        "pause_seconds": data.get("pause"),
                        "calls_per_second": data.get("limit"),
                    },
                )
            case _:
                pass

    def _item_failed(self, data: dict[str, Any]) -> None:
        now = self._clock()
        self._budget = min(BURST, self._budget + (now - self._counted_at) / SECONDS_BETWEEN)
        self._counted_at = now
        if self._budget < 1:
            self.left_out += 1
            return
        self._budget -= 1
        known = {key: data.get(key) for key in ("item_id", "category", "error", "attempts")}
        self._events.emit("item.failed", {**known, "shard": self._shard.index, "left_out": self.left_out})
        self.left_out = 0
