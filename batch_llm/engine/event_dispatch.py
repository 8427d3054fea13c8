"""Delivery of events to observers, each in its own task, so that a slow observer delays only itself.

listening ──an event takes too long, or too many wait──> dropped for the rest of the run
    └──────close()──> receives the remaining events ──> done
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, TypeAlias

from batch_llm.observers.base import ProcessingEvent, ProcessorObserver

from .timeouts import Deadlines
from .user_errors import log_unless_run_ends

logger = logging.getLogger(__name__)

OBSERVER_SECONDS = 5.0
OBSERVER_BACKLOG = 100_000

Entry: TypeAlias = tuple[ProcessingEvent, dict[str, Any]]


class ObserverQueue:
    """Queue of events for one observer, and the task that delivers them."""

    def __init__(self, observer: ProcessorObserver) -> None:
        self._observer = observer
        self._name = type(observer).__name__
        self._events: list[Entry] = []
        self._news = asyncio.Event()
        self._deadlines = Deadlines(OBSERVER_SECONDS)
        self._closing = self._ending = False
        self._listening = True

    def open(self) -> None:
        self._task = asyncio.create_task(self._listen(), name=f"batch-llm observer {self._name}")

    def put(self, entry: Entry) -> None:
        """Add an event; the observer receives its own copy of the data."""
        if not self._listening:
            return
        if len(self._events) >= OBSERVER_BACKLOG:
            self._drop("is %s events behind", OBSERVER_BACKLOG)
            return
        if not self._events:
            self._news.set()
        self._events.append(entry)

    def close(self) -> asyncio.Task[None]:
        """Return the task, which completes after the observer has received all events."""
        self._closing = True
        self._news.set()
        return self._task

    def end(self) -> None:
        """Cancel the task immediately."""
        self._ending = True
        self._task.cancel()

    async def _listen(self) -> None:
        try:
            while self._listening:
                await self._news.wait()
                self._news.clear()
                await self._deliver_waiting()
                if self._closing and not self._events:
                    return
                await asyncio.sleep(0)  # an observer that never waits must not block the loop
        finally:
            self._deadlines.close()

    async def _deliver_waiting(self) -> None:
        """Deliver the events that wait now, under one deadline that is renewed for each event."""
        on_event, deadline = self._observer.on_event, self._deadlines.one()
        waiting, self._events = self._events, []
        try:
            with deadline:
                for event, data in waiting:
                    if not self._listening:
                        return
                    own = data.copy()
                    if "tokens" in own:
                        own["tokens"] = own["tokens"].copy()
                    deadline.renew()
                    try:
                        await on_event(event, own)
                    except BaseException as error:
                        if deadline.expired and isinstance(error, Exception | asyncio.CancelledError):
                            raise asyncio.CancelledError from error
                        text = "Observer %s raised an error on %s; the run continues"
                        await log_unless_run_ends(error, lambda: self._ending, text, self._name, event.name)
        except TimeoutError:
            self._drop("took more than %s seconds for one event", OBSERVER_SECONDS)

    def _drop(self, reason: str, *args: object) -> None:
        self._listening = False
        self._events.clear()
        self._news.set()
        logger.warning(f"Observer %s {reason} and is dropped for the rest of the run", self._name, *args)
