"""Calls users' code (middleware, callbacks, observers) and contains what it raises: the item goes on."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from ._contained import CONTAINED, contain
from ._listeners import Listener
from .items import AnyResult, AnyWorkItem, LLMWorkItem, PostProcessorFunc, ProgressCallbackFunc, WorkItemResult
from .middleware import Middleware
from .observers.base import ProcessingEvent, ProcessorObserver

logger = logging.getLogger(__name__)

OBSERVERS_AT_THE_END_SECONDS = 60.0


class Hooks:
    """One run's hooks, from its start to `close`.

    Attributes:
        observed: Whether there are observers; asked before an event's data are put together.
        wrapped: Whether there are middlewares.
        called_back: Whether there is a post-processor or a progress callback.
    """

    def __init__(
        self,
        middlewares: Sequence[Middleware],
        observers: Sequence[ProcessorObserver],
        post_processor: PostProcessorFunc[Any, Any] | None,
        progress_callback: ProgressCallbackFunc | None,
        max_workers: int,
    ) -> None:
        self._middlewares = middlewares
        self._post_processor = post_processor
        self._progress_callback = progress_callback
        self._one_progress_at_a_time = asyncio.Lock()
        self._max_workers = max_workers
        self._threads: ThreadPoolExecutor | None = None
        self._listeners = [Listener(observer) for observer in observers]
        self.observed = bool(observers)
        self.wrapped = bool(middlewares)
        self.called_back = post_processor is not None or progress_callback is not None

    def open(self) -> None:
        """Let the observers begin to listen; what was emitted before is not lost."""
        for listener in self._listeners:
            listener.open()

    def emit(self, event: ProcessingEvent, data: dict[str, Any]) -> None:
        """Tell every observer, each with a copy of its own; they hear it in their own time."""
        entry = (event, data)
        for listener in self._listeners:
            listener.tell(entry)

    def finished(self, result: AnyResult) -> None:
        """Tell the observers how an item ended."""
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

    async def before(self, item: AnyWorkItem) -> AnyWorkItem | None:
        """Return the item that the middlewares make of `item`, or None to skip it."""
        current = item
        for middleware in self._middlewares:
            try:
                changed = await middleware.before_process(current)
                if changed is None:
                    return None
                if not isinstance(changed, LLMWorkItem):  # pyright: ignore[reportUnnecessaryIsInstance]  may be untyped
                    raise TypeError(f"before_process returned {changed!r}; it must return a work item or None")
                current = changed if changed.item_id == item.item_id else replace(changed, item_id=item.item_id)
            except CONTAINED as error:
                _go_on(error, f"{type(middleware).__name__}.before_process", item.item_id)
        return current

    async def failed(self, item: AnyWorkItem, error: Exception) -> None:
        """Show the middlewares the error that `item` failed with, in reverse order."""
        for middleware in reversed(self._middlewares):
            try:
                await middleware.on_error(item, error)
            except CONTAINED as own:
                _go_on(own, f"{type(middleware).__name__}.on_error", item.item_id)

    async def after(self, item: AnyWorkItem, result: AnyResult) -> AnyResult:
        """Return the result that the middlewares make of `result`, in reverse order."""
        for middleware in reversed(self._middlewares):
            try:
                changed = await middleware.after_process(item, result)
                if not isinstance(changed, WorkItemResult):  # pyright: ignore[reportUnnecessaryIsInstance]  as above
                    raise TypeError(f"after_process returned {changed!r}; it must return a result")
                result = changed if changed.item_id == item.item_id else replace(changed, item_id=item.item_id)
            except CONTAINED as error:
                _go_on(error, f"{type(middleware).__name__}.after_process", item.item_id)
        return result

    async def post_process(self, result: AnyResult) -> None:
        """Hand a finished item to the post-processor."""
        if self._post_processor is not None:
            try:
                await self._call(self._post_processor, result)
            except CONTAINED as error:
                _go_on(error, "The post-processor", result.item_id)

    async def progress(self, completed: int, total: int, item_id: str) -> None:
        """Report progress; the lock is fair, so reports come in the order in which the items finished."""
        if self._progress_callback is not None:
            async with self._one_progress_at_a_time:
                try:
                    await self._call(self._progress_callback, completed, total, item_id)
                except CONTAINED as error:
                    _go_on(error, "The progress callback", item_id)

    async def _call(self, callback: Callable[..., Awaitable[None] | None], *args: object) -> None:
        if _is_async(callback):
            outcome = callback(*args)
        else:
            # asyncio's own pool has a handful of threads: it would cap the workers without a word.
            self._threads = self._threads or ThreadPoolExecutor(self._max_workers, "batch-llm-callback")
            context = contextvars.copy_context()
            loop = asyncio.get_running_loop()
            outcome = await loop.run_in_executor(self._threads, lambda: context.run(callback, *args))
        if inspect.isawaitable(outcome):
            await outcome

    async def close(self) -> None:
        """Let the observers hear what is left for them, within a limit, and end the threads."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        endings = [listener.close() for listener in self._listeners]
        if not endings:
            return
        try:
            _, late = await asyncio.wait(endings, timeout=OBSERVERS_AT_THE_END_SECONDS)
            for _ in late:
                logger.warning("An observer still had events to hear when the run ended; they are dropped")
        finally:  # also when the run is cancelled while it waits for them
            for task in endings:
                task.cancel()
            await asyncio.wait(endings)


def _go_on(error: BaseException, hook: str, item_id: str) -> None:
    contain(error, "%s on item %s raised; the item goes on", hook, item_id)


def _is_async(callback: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(getattr(callback, "__call__", None))  # noqa: B004  asks for the method
