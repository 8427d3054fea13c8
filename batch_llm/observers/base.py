"""What an observer is told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import Any


class ProcessingEvent(StrEnum):
    """Something that happened in a run, with the keys of the data that come with it.

    Attributes:
        PROCESSING_STARTED: A run began: `total` (items known so far), `max_workers`.
        PROCESSING_COMPLETED: A run ended, in whatever way: `total`, `succeeded`, `failed`, `input_tokens`,
            `output_tokens`, `duration`, `stopped_by` (a category, or None), `cancelled`.
        ITEM_STARTED: A worker took up an item, once per item: `item_id`.
        ITEM_COMPLETED: An item succeeded: `item_id`, `duration` (seconds, waits included), `attempts`, `tokens`.
        ITEM_FAILED: An item failed: the same, and `error`, `category`. The category is `not_attempted` for an item that
            never started, `skipped` for one that a middleware dropped, `cancelled` for one whose run was cancelled.
        RETRY_SCHEDULED: An attempt failed and another follows: `item_id`, `attempt` (the one that failed), `wait`
            (seconds), `category`.
        RATE_LIMIT_HIT: The run pauses, once per episode: `item_id` (the first that met it), `pause` (seconds), and with
            a governor `limit` (calls a second after it).
        WORKER_STARTED: A worker began: `worker`.
        WORKER_STOPPED: A worker ended: `worker`.
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
    """Is told of a run's events, in their order, beside the calls and never in their way.

    What it raises is logged. One whose call takes longer than 5 seconds is dropped for the rest of the run.
    """

    @abstractmethod
    async def on_event(self, event: ProcessingEvent, data: dict[str, Any]) -> None:
        """Take note of `event`; `data` is a copy of its own, with the keys that `ProcessingEvent` lists."""


class BaseObserver(ProcessorObserver):
    """An observer that ignores everything: derive from it and look at the events you need."""

    async def on_event(self, event: ProcessingEvent, data: dict[str, Any]) -> None:
        return None
