"""Tells an observer what happens, in its own time: a slow one delays nobody but itself.

listening ──an event takes too long, or too many wait──> dropped for the rest of the run
    └──────close()──> hears what is left ──> ended
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, TypeAlias

from batch_llm.observers.base import ProcessingEvent, ProcessorObserver

from .timeouts import Deadlines
from .user_errors import contain

logger = logging.getLogger(__name__)

OBSERVER_SECONDS = 5.0
OBSERVER_BACKLOG = 100_000

Entry: TypeAlias = tuple[ProcessingEvent, dict[str, Any]]


class ObserverQueue:
    """One observer, the events that wait for it, and the task that tells it of them."""

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
        """Have the observer hear of an event, with a copy of its data, which nobody changes."""
        if not self._listening:
            return
        if len(self._events) >= OBSERVER_BACKLOG:
            self._drop("is %s events behind", OBSERVER_BACKLOG)
            return
        if not self._events:
            self._news.set()
        self._events.append(entry)

    def close(self) -> asyncio.Task[None]:
        """Return the task, which ends as soon as the observer has heard everything."""
        self._closing = True
        self._news.set()
        return self._task

    def end(self) -> None:
        """End the task at once, whatever the observer is about."""
        self._ending = True
        self._task.cancel()

    async def _listen(self) -> None:
        try:
            while self._listening:
                await self._news.wait()
                self._news.clear()
                await self._hear_what_waits()
                if self._closing and not self._events:
                    return
                await asyncio.sleep(0)  # an observer that never waits must not keep the loop to itself
        finally:
            self._deadlines.close()

    async def _hear_what_waits(self) -> None:
        """Tell the observer of what waits by now, under one deadline that is renewed for each event."""
        hear, deadline = self._observer.on_event, self._deadlines.one()
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
                        await hear(event, own)
                    except BaseException as error:
                        if deadline.expired and isinstance(error, Exception | asyncio.CancelledError):
                            raise asyncio.CancelledError from error
                        text = "Observer %s on %s raised; the run goes on"
                        await contain(error, lambda: self._ending, text, self._name, event.name)
        except TimeoutError:
            self._drop("took more than %s seconds for one event", OBSERVER_SECONDS)

    def _drop(self, reason: str, *args: object) -> None:
        self._listening = False
        self._events.clear()
        self._news.set()
        logger.warning(f"Observer %s {reason} and is dropped for the rest of the run", self._name, *args)
