"""Events of a run, and the base class of observers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import Any


class ProcessingEvent(StrEnum):
    """Event of a run, listed with the keys of its data.

    Attributes:
        PROCESSING_STARTED: A run started: `total` (number of items so far), `max_workers`.
        PROCESSING_COMPLETED: A run completed, stopped, failed or was cancelled: `total`, `succeeded`, `failed`,
            `input_tokens`, `output_tokens`, `duration`, `stopped_by` (a category, or None), `cancelled`.
        ITEM_STARTED: A worker started an item, once per item: `item_id`.
        ITEM_COMPLETED: An item succeeded: `item_id`, `duration` (seconds, including waits), `attempts`, `tokens`.
        ITEM_FAILED: An item failed: `item_id`, `duration`, `attempts`, `tokens`, `error`, `category`. The category is
            `not_attempted` for an item that never started, `skipped` for an item that a middleware dropped, and
            `cancelled` for an item whose run was cancelled.
        RETRY_SCHEDULED: An attempt failed and another one follows: `item_id`, `attempt` (the one that failed), `wait`
            (seconds), `category`.
        RATE_LIMIT_HIT: A cooldown starts: `item_id` (the first item that met the rate limit), `pause` (seconds), and
            with a governor `limit` (calls per second afterwards).
        WORKER_STARTED: A worker started: `worker`.
        WORKER_STOPPED: A worker stopped: `worker`.
    """

    PROCESSING_STARTED = "processing_started"
    PROCESSING_COMPLETED = "processing_completed"
    ITEM_STARTED = "item_started"
    ITEM_COMPLETED = "item_completed"
    ITEM_FAILED = "item_failed"
    RETRY_SCHEDULED = "retry_scheduled"
    RATE_LIMIT_HIT = "rate_limit_hit"
    WORKER_STARTED = "worker_started"
    WORKER_STOPPED = "worker_stopped"


class ProcessorObserver(ABC):
    """Base class of observers, which receive the events of a run in order and never delay its calls.

    An error that an observer raises is logged. An observer that takes longer than 5 seconds for one event is removed
    for the rest of the run.

    Example:
        class PrintFailures(ProcessorObserver):
            async def on_event(self, event: ProcessingEvent, data: dict[str, Any]) -> None:
                if event is ProcessingEvent.ITEM_FAILED:
                    print(data["item_id"], data["error"])
    """

    @abstractmethod
    async def on_event(self, event: ProcessingEvent, data: dict[str, Any]) -> None:
        """Handle one event; `data` is the observer's own copy, with the keys that `ProcessingEvent` lists."""


class BaseObserver(ProcessorObserver):
    """Observer that ignores all events: derive from it and override `on_event`."""

    async def on_event(self, event: ProcessingEvent, data: dict[str, Any]) -> None:
        """Ignore the event."""
