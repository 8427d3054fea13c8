"""Observer that emits engine events of a shard as Prefect events, in a limited number."""

from __future__ import annotations

from typing import Any

from batch_llm.jobs import ShardRef
from batch_llm.observers.base import BaseObserver, ProcessingEvent

from .events import RunEvents


class PrefectObserver(BaseObserver):
    """Observer that emits the first, second, fourth, eighth, ... failed item and rate limit of a shard.

    Args:
        events: Emitter of the run's events.
        shard: The shard.
        run_count: Number of the try of the shard, from 1; each try may emit half as many events as the one before.

    Example:
        As an observer of a processor::

            observer = PrefectObserver(RunEvents(run_id, "tickets"), shard)
    """

    def __init__(self, events: RunEvents, shard: ShardRef, run_count: int = 1) -> None:
        self._events = events
        self._shard = shard
        room = events.room_for(shard.index) >> (run_count - 1)
        self._failures, self._refusals = _Thinned(room), _Thinned(room)

    @property
    def left_out(self) -> int:
        """Number of failed items since the last emitted one."""
        return self._failures.left_out

    async def on_event(self, event: ProcessingEvent, data: dict[str, Any]) -> None:
        """Emit failed items and rate limits as Prefect events; ignore other events."""
        match event:
            case ProcessingEvent.ITEM_FAILED:
                known = {key: data.get(key) for key in ("item_id", "category", "error", "attempts")}
                self._report("item.failed", self._failures, known)
            case ProcessingEvent.RATE_LIMIT_HIT:
                known = {"pause_seconds": data.get("pause"), "calls_per_second": data.get("limit")}
                self._report("rate-limit.hit", self._refusals, known)
            case _:
                pass

    def _report(self, event: str, thinned: _Thinned, known: dict[str, Any]) -> None:
        if thinned.takes():
            self._events.emit(event, {**known, "shard": self._shard.index, "left_out": thinned.left_out})
            thinned.left_out = 0


class _Thinned:
    """Filter that accepts the first, second, fourth, eighth, ... event, up to `room`."""

    def __init__(self, room: int) -> None:
        self.left_out = 0
        self._room = room
        self._seen, self._next = 0, 1

    def takes(self) -> bool:
        self._seen += 1
        if self._seen < self._next or not self._room:
            self.left_out += 1
            return False
        self._next *= 2
        self._room -= 1
        return True
