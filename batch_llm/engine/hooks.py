"""Hooks of a run: middlewares, callbacks and observers; their errors are logged, and the item continues."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from batch_llm.items import AnyResult, AnyWorkItem, LLMWorkItem, PostProcessorFunc, ProgressCallbackFunc, WorkItemResult
from batch_llm.middleware import Middleware
from batch_llm.observers.base import ProcessingEvent, ProcessorObserver

from .callbacks import Callbacks
from .event_dispatch import ObserverQueue
from .hook_watch import FAILED, HookSlot, HookWatch
from .user_values import PROGRAMMING, check_result, counts_in, in_words, shown

logger = logging.getLogger(__name__)

OBSERVERS_AT_THE_END_SECONDS = 60.0


class _Wrap(NamedTuple):
    """Middleware with the names of its hooks for the log, computed once instead of for every item."""

    hooks: Middleware
    before: str
    on_error: str
    after: str


class Hooks:
    """Hooks of one run, from its start to `close`.

    Args:
        middlewares: Middlewares in their order before the call.
        observers: Receivers of events.
        post_processor: Function called with each result.
        progress_callback: Function called after each item.
        max_workers: Maximum number of plain callbacks that run concurrently.
        timeout: Seconds for one call of a hook; None for no limit.
        is_ending: Function that returns whether the run cancels its workers.

    Attributes:
        observed: Whether there are observers; checked before the data of an event are built.
        wrapped: Whether there are middlewares.
        callbacks: Post-processor and progress callback; None if neither is set.
    """

    def __init__(
        self,
        middlewares: Sequence[Middleware],
        observers: Sequence[ProcessorObserver],
        post_processor: PostProcessorFunc[Any, Any] | None,
        progress_callback: ProgressCallbackFunc | None,
        max_workers: int,
        timeout: float | None,
        is_ending: Callable[[], bool],
    ) -> None:
        self._wraps = [_wrap(middleware) for middleware in middlewares]
        self._reversed = self._wraps[::-1]
        self._watch = HookWatch(timeout, is_ending)
        self._listeners = [ObserverQueue(observer) for observer in observers]
        self.observed = bool(observers)
        self.wrapped = bool(middlewares)
        self.callbacks: Callbacks | None = None
        if post_processor is not None or progress_callback is not None:
            self.callbacks = Callbacks(post_processor, progress_callback, max_workers, self._watch)

    def open(self) -> None:
        """Start the delivery of events; those that were emitted before are delivered, too."""
        if self.wrapped or self.callbacks is not None:
            self._watch.open()
        for listener in self._listeners:
            listener.open()

    def slot(self) -> HookSlot:
        """Return a slot for the current task, which is a worker."""
        return self._watch.slot()

    def emit(self, event: ProcessingEvent, data: dict[str, Any]) -> None:
        """Queue an event for every observer; each receives its own copy in its own task."""
        entry = (event, data)
        for listener in self._listeners:
            listener.put(entry)

    def finished(self, result: AnyResult) -> None:
        """Emit the event of a finished item."""
        data: dict[str, Any] = {
            "item_id": result.item_id,
            "duration": result.duration_seconds,
            "attempts": result.attempts,
            "tokens": result.token_usage.copy(),
        }
        if result.success:
            self.emit(ProcessingEvent.ITEM_COMPLETED, data)
        else:
            category = result.error_info.category if result.error_info else "unknown"
            self.emit(ProcessingEvent.ITEM_FAILED, data | {"error": result.error, "category": category})

    async def before(self, slot: HookSlot, item: AnyWorkItem) -> AnyWorkItem | None:
        """Return the item that the middlewares make of `item`, which keeps its id, or None to skip it."""
        current: AnyWorkItem = item
        item_id = slot.item_id = item.item_id
        for wrap in self._wraps:
            slot.hook, slot.since = wrap.before, None
            changed: Any
            try:
                awaitable = wrap.hooks.before_process(current)
                changed = await (awaitable if self._watch.timeout is None else self._watch.in_time(awaitable))
                if slot.task.cancelling():
                    await self._watch.undo_own_cancellation()
            except BaseException as error:
                changed = await self._watch.log_unless_run_ends(slot, error)
            slot.hook = ""
            if changed is None:
                return None
            if isinstance(changed, LLMWorkItem):
                current = changed  # pyright: ignore[reportUnknownVariableType]
            elif changed is not FAILED:
                _complain(wrap.before, item_id, "a work item or None", changed)
            if current.item_id != item_id:
                if current is item:
                    current.item_id = item_id
                else:
                    current = replace(current, item_id=item_id)
        return current

    async def failed(self, slot: HookSlot, item: AnyWorkItem, error: Exception) -> None:
        """Call `on_error` of the middlewares, in reverse order, with the error that `item` failed with."""
        for wrap in self._reversed:
            slot.hook, slot.since = wrap.on_error, None
            try:
                awaitable = wrap.hooks.on_error(item, error)
                await (awaitable if self._watch.timeout is None else self._watch.in_time(awaitable))
                if slot.task.cancelling():
                    await self._watch.undo_own_cancellation()
            except BaseException as own:
                await self._watch.log_unless_run_ends(slot, own)
            slot.hook = ""

    async def after(self, slot: HookSlot, item_id: str, item: AnyWorkItem, result: AnyResult) -> AnyResult:
        """Return the result that the middlewares make of `result`, in reverse order; an invalid one is a failure."""
        for wrap in self._reversed:
            # The billed tokens are kept, even if a hook returns an invalid result.
            context, tokens, attempts = result.context, result.token_usage, result.attempts
            slot.hook, slot.since = wrap.after, None
            changed: Any
            try:
                awaitable = wrap.hooks.after_process(item, result)
                changed = await (awaitable if self._watch.timeout is None else self._watch.in_time(awaitable))
                if slot.task.cancelling():
                    await self._watch.undo_own_cancellation()
            except BaseException as error:
                changed = await self._watch.log_unless_run_ends(slot, error)
            slot.hook = ""
            if isinstance(changed, WorkItemResult):
                result = changed  # pyright: ignore[reportUnknownVariableType]
            elif changed is not FAILED:
                _complain(wrap.after, item_id, "a result", changed)
            try:
                check_result(result, wrap.after)
                if result.item_id != item_id:
                    result = replace(result, item_id=item_id)
            except Exception as error:
                logger.warning("%s on item %s: %s", wrap.after, item_id, error)
                result = WorkItemResult(item_id, False, None, in_words(error), context, counts_in(tokens))
                result.error_info, result.attempts = PROGRAMMING, attempts
        return result

    async def close(self) -> None:
        """Deliver the remaining events within a time limit, and stop the threads."""
        self._watch.close()
        if self.callbacks is not None:
            self.callbacks.close()
        endings = [listener.close() for listener in self._listeners]
        if not endings:
            return
        try:
            _, late = await asyncio.wait(endings, timeout=OBSERVERS_AT_THE_END_SECONDS)
            for _ in late:
                logger.warning("An observer did not process all events by the end of the run; the rest is dropped")
        finally:  # also if the run is cancelled during the wait
            for listener in self._listeners:
                listener.end()
            await asyncio.wait(endings)


def _wrap(middleware: Middleware) -> _Wrap:
    name = type(middleware).__name__
    return _Wrap(middleware, f"{name}.before_process", f"{name}.on_error", f"{name}.after_process")


def _complain(hook: str, item_id: str, rule: str, given: object) -> None:
    what = f"it returned {shown(given)}, and must return {rule}"
    logger.warning("%s on item %s: %s; the item continues unchanged", hook, item_id, what)
