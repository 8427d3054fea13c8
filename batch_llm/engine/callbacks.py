"""Calls of the post-processor and of the progress callback; plain functions run in threads."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from batch_llm.items import AnyResult, PostProcessorFunc, ProgressCallbackFunc

from .hook_watch import HookSlot, HookWatch
from .user_values import in_words


class Callbacks:
    """Post-processor and progress callback of a run.

    Args:
        post_processor: Function called with each result.
        progress_callback: Function called after each item.
        max_workers: Maximum number of plain callbacks that run concurrently.
        watch: Supervision of the calls.
    """

    def __init__(
        self,
        post_processor: PostProcessorFunc[Any, Any] | None,
        progress_callback: ProgressCallbackFunc | None,
        max_workers: int,
        watch: HookWatch,
    ) -> None:
        self._post_processor = post_processor
        self._progress_callback = progress_callback
        self._post_processor_is_async = _is_async(post_processor)
        self._progress_callback_is_async = _is_async(progress_callback)
        self._max_workers = max_workers
        self._watch = watch
        self._threads: ThreadPoolExecutor | None = None
        self._one_progress_at_a_time = asyncio.Lock()
        self._reported = 0  # not the number of results, because post-processors overtake each other

    async def post_process(self, slot: HookSlot, item_id: str, result: AnyResult) -> None:
        """Pass a finished item to the post-processor."""
        slot.item_id = item_id
        if self._post_processor is not None:
            callback = self._post_processor
            await self._call(slot, "The post-processor", callback, self._post_processor_is_async, (result,))

    async def progress(self, slot: HookSlot, total: int, item_id: str) -> None:
        """Report progress; the lock is fair, so reports come in the order in which the items finished."""
        self._reported += 1
        if self._progress_callback is not None:
            callback, args = self._progress_callback, (self._reported, total, item_id)
            async with self._one_progress_at_a_time:
                await self._call(slot, "The progress callback", callback, self._progress_callback_is_async, args)

    def close(self) -> None:
        """Stop the threads."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _call(
        self,
        slot: HookSlot,
        name: str,
        callback: Callable[..., Any],
        is_async: bool,
        args: tuple[Any, ...],
    ) -> None:
        slot.hook, slot.since = name, None
        try:
            awaitable = callback(*args) if is_async else self._in_thread(callback, args)
            await (awaitable if self._watch.timeout is None else self._watch.in_time(awaitable))
            if slot.task.cancelling():
                await self._watch.undo_own_cancellation()
        except BaseException as error:
            await self._watch.log_unless_run_ends(slot, error)
        slot.hook = ""

    async def _in_thread(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        # asyncio's own pool has a few threads only, and would limit the number of workers.
        self._threads = self._threads or ThreadPoolExecutor(self._max_workers, "batch-llm-callback")
        call, context = _InThread(callback, args), contextvars.copy_context()
        await asyncio.get_running_loop().run_in_executor(self._threads, context.run, call)
        outcome = call.outcome()
        if inspect.isawaitable(outcome):
            await outcome


class _InThread:
    """Plain callback that runs in a thread; its error is stored, because a future does not accept StopIteration."""

    def __init__(self, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        self._callback, self._args = callback, args
        self._outcome: object = None
        self._error: BaseException | None = None

    def __call__(self) -> None:
        try:
            self._outcome = self._callback(*self._args)
        except BaseException as error:
            self._error = error

    def outcome(self) -> object:
        """Return the callback's value or raise its error, as a RuntimeError if a coroutine cannot raise it."""
        if isinstance(self._error, StopIteration | GeneratorExit):
            raise RuntimeError(f"it raised {in_words(self._error)}") from self._error
        if self._error is not None:
            raise self._error
        return self._outcome


def _is_async(callback: Callable[..., object] | None) -> bool:
    return inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(getattr(callback, "__call__", None))  # noqa: B004  asks for the method
