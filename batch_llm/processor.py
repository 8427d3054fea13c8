"""Entry point of the engine: process added or streamed work items in parallel."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from types import TracebackType
from typing import Generic, Self, TypeVar

from .classifiers.default import DefaultErrorClassifier
from .config import ProcessorConfig, checked
from .engine.hooks import Hooks
from .engine.run import STOPPED, Run
from .engine.stream import Source
from .engine.user_values import check_is_item
from .errors import ErrorClassifier, ErrorInfo, RunStopped
from .items import (
    BatchResult,
    LLMWorkItem,
    PostProcessorFunc,
    ProgressCallbackFunc,
    TContext,
    TInput,
    WorkItemResult,
)
from .middleware import Middleware
from .observers.base import ProcessorObserver
from .pacing.pacer import Pacer
from .rate_limit import RateLimitStrategy, built_in
from .strategies.base import TOutput

T = TypeVar("T")


class BatchProcessor(ABC, Generic[TInput, TOutput, TContext]):
    """Base class of processors, which return one result per work item; `async with` calls `cleanup` on exit."""

    @abstractmethod
    async def add_work(self, work_item: LLMWorkItem[TInput, TOutput, TContext]) -> None:
        """Add one item to the next run."""

    @abstractmethod
    async def process_all(self) -> BatchResult[TOutput, TContext]:
        """Process the added items and return their results in the order in which they were added."""

    async def cleanup(self) -> None:
        """Release the resources of the processor; may be called more than once."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.cleanup()


class ParallelBatchProcessor(BatchProcessor[TInput, TOutput, TContext]):
    """Processor that makes up to `max_workers` concurrent calls, with retries and a shared cooldown after a rate limit.

    A run starts with `process_all`, with an `add_work` call that finds a bounded queue full, or with `process_stream`.
    When it completes, fails or is cancelled, its prepared strategies are cleaned up and no task remains. The processor
    can then be used for another run.

    Values from users' code are validated: a prompt that is not a string, or an invalid return value of a classifier or
    a middleware, fails its item (category `programming`), never the run. A hook that takes more than 60 s is logged,
    and again each time that duration doubles; `ProcessorConfig.hook_timeout` limits it.

    A processor belongs to one event loop while a run is open. Processors in several threads, each with its own loop,
    may share a governor and observers.

    Calls start no faster than the event loop can handle them: between two iterations of the loop, starts get 20 ms. If
    the calls of a run wait for this most of the time, one warning with the remedy is logged.

    Args:
        config: Settings of the processor.
        post_processor: Called with the result of every item, successful or failed; a plain function runs in a thread.
            If it raises, the error is logged and the result is kept.
        progress_callback: Called with `(completed, total, item_id)` after every item, one call at a time; a plain
            function runs in a thread. The total of a stream is the number of items pulled so far.
        error_classifier: Decides which errors are retried. Default: `DefaultErrorClassifier()`.
        rate_limit_strategy: Decides how long a cooldown lasts. Default: `ExponentialBackoffStrategy` with the values of
            `config.rate_limit`.
        middlewares: Hooks called in order before an item and in reverse order after it.
        observers: Receivers of events; they never delay a call.
        governor: Paces the calls by the provider's limit, which is configured or detected; may be shared by processors.
            Without a governor, calls start as soon as workers are free, and a slow start follows each cooldown.

    Raises:
        ValueError: An argument is invalid. Each run validates `config` again and uses its own copy.

    Example:
        config = ProcessorConfig(max_workers=20)
        async with ParallelBatchProcessor(config, governor=Governor()) as processor:
            await processor.add_work(LLMWorkItem(item_id="1", strategy=strategy, prompt="Summarize: ..."))
            result = await processor.process_all()
    """

    def __init__(
        self,
        config: ProcessorConfig,
        post_processor: PostProcessorFunc[TOutput, TContext] | None = None,
        progress_callback: ProgressCallbackFunc | None = None,
        error_classifier: ErrorClassifier | None = None,
        rate_limit_strategy: RateLimitStrategy | None = None,
        middlewares: list[Middleware] | None = None,
        observers: list[ProcessorObserver] | None = None,
        *,
        governor: Pacer | None = None,
    ) -> None:
        checked(config)
        self._config = config  # each run takes a copy of its own
        self._post_processor = _callable("post_processor", post_processor)
        self._progress_callback = _callable("progress_callback", progress_callback)
        self._classifier = error_classifier if error_classifier is not None else DefaultErrorClassifier()
        self._rate_limits = rate_limit_strategy
        self._middlewares: Sequence[Middleware] = tuple(middlewares or ())
        self._governor = governor
        self._observers: Sequence[ProcessorObserver] = tuple(observers or ())
        self._run: Run | None = None  # being filled, or running
        self._latest: Run | None = None
        self._ids: set[str] = set()
        self._entered = False
        self._stop_asked = False

    @property
    def stopped_by(self) -> ErrorInfo | None:
        """Reason why the current or latest run stopped early: a fatal error, or category `stopped`; else None."""
        return self._latest.stopped_by if self._latest is not None else None

    async def __aenter__(self) -> Self:
        self._entered = True
        return self

    async def add_work(self, work_item: LLMWorkItem[TInput, TOutput, TContext]) -> None:
        """Add one item to the open run, or to the next one.

        With `max_queue_size`, a full queue starts the workers inside `async with`, and this method waits for a free
        slot. Called from a hook of the same run, also through the hook's own tasks and threads, it does not wait,
        because the hook's own worker may be the one that frees a slot.

        Raises:
            ValueError: `work_item` is not an `LLMWorkItem`, its id is a duplicate, or a changed setting is invalid.
            RuntimeError: The queue is full outside `async with`, a stream is running, or the run failed (its cause).
        """
        check_is_item(work_item)
        run = self._current()
        if run.is_stream:
            raise RuntimeError("process_stream is running: yield the item from its source, or wait until it completes")
        if work_item.item_id in self._ids:
            raise ValueError(f"item_id {work_item.item_id!r} was added already: give every item of a run its own")
        if run.is_full and run.task is None:
            self._start_early(run)
        ids = self._ids
        ids.add(work_item.item_id)
        try:
            await run.add(work_item)
        except BaseException:  # for example a cancelled wait for a free slot: the item may be added again
            ids.discard(work_item.item_id)
            raise

    async def process_all(self) -> BatchResult[TOutput, TContext]:
        """Process all added items, including those added meanwhile; return the results in the order of adding.

        A second call processes the items added since the first. On cancellation, calls in flight are cancelled,
        prepared strategies are cleaned up, items without a result are dropped, and `results_so_far()` returns the
        finished results; `CancelledError` is raised even if a hook suppressed it.

        Raises:
            ValueError: A setting was changed to an invalid value.
            RuntimeError: Another run is open, or this run was cancelled by `cleanup`.
            BaseException: The error that made the run fail, even if it failed before this call.
        """
        run = self._current()
        if run.is_draining or run.is_stream:
            raise RuntimeError("a run is in progress: wait until it completes before you start another one")
        if run.task is None:
            run.start()
        run.drain()
        try:
            await run.ended()
        finally:
            self._forget(run)
        return BatchResult(run.finished.in_order())

    async def process_stream(
        self,
        items: Iterable[LLMWorkItem[TInput, TOutput, TContext]] | AsyncIterable[LLMWorkItem[TInput, TOutput, TContext]],
    ) -> AsyncGenerator[WorkItemResult[TOutput, TContext]]:
        """Process `items` and yield each result as it finishes.

        At most `max_workers + max_queue_size` items are pulled but not yet yielded as results, so memory does not grow
        with the number of items, and a slow consumer slows down the calls. A plain iterable is read in the event loop.
        Ids are not checked for duplicates. To leave early, use `contextlib.aclosing`: it cancels the calls in flight.

        Raises:
            RunStopped: A fatal error stopped the run early; raised after the last result, but not after `stop()`.
            RuntimeError: A run is open, or added items have not been processed by `process_all`.
            Exception: Any error that `items` raises, after the results of the items before it.

        Example:
            async with aclosing(processor.process_stream(items)) as results:
                async for result in results:
                    save(result)
        """
        if self._run is not None and not self._run.is_over:
            raise RuntimeError("a run is open or items were added: await process_all() before you stream")
        run = self._run = self._open(items)
        run.start()
        try:
            while run.finished.items or await run.finished.filled():
                yield run.claim()
            await run.ended()
            if run.stopped_by is not None and run.stopped_by is not STOPPED:
                raise RunStopped(run.stopped_by) from run.stopped_from
        finally:
            await run.cancel()
            self._forget(run)

    def results_so_far(self) -> BatchResult[TOutput, TContext]:
        """Return the finished results of the current or latest run, in order; for a stream, those not yielded yet."""
        return BatchResult(self._latest.finished.in_order() if self._latest is not None else [])

    def stop(self) -> None:
        """Stop the open run gracefully, or the next run if none is open: no further call starts.

        Calls in flight complete normally, waits for a backoff or a cooldown end immediately, and added or pulled items
        that have not started get a result of category `not_attempted`. Call it in the event loop of the run.
        """
        if self._run is not None:
            self._run.stop(STOPPED)
        else:
            self._stop_asked = True

    async def cleanup(self) -> None:
        """Cancel the open run, if any, and drop the waiting items."""
        self._entered = False
        if self._run is not None:
            run = self._run
            await run.cancel()
            self._forget(run)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Clean up; raise the error of a failed run, unless the block raised or the error was already raised."""
        run = self._run
        cause = await run.cause() if run is not None and run.is_broken else None
        await self.cleanup()
        if cause is not None and exc is None:
            raise cause

    def _current(self) -> Run:
        """Return the run that accepts items; a run that failed stays current until its error was raised."""
        if self._run is not None and self._run.is_over and not self._run.is_broken:
            self._forget(self._run)
        if self._run is not None and self._run.loop is not asyncio.get_running_loop():
            raise RuntimeError(
                "a run of this processor is open in another event loop: use one processor per event loop"
            )
        self._run = self._run or self._open()
        return self._run

    def _open(self, source: Source | None = None) -> Run:
        config = checked(self._config)
        hooks = Hooks(
            self._middlewares,
            self._observers,
            self._post_processor,
            self._progress_callback,
            config.max_workers,
            config.hook_timeout,
            lambda: run.is_ending(),
        )
        limits = self._rate_limits or built_in(config.rate_limit, is_governed=self._governor is not None)
        run = self._latest = Run(config, self._classifier, limits, hooks, source, self._governor)
        if self._stop_asked:
            self._stop_asked = False
            run.stop(STOPPED)
        return run

    def _start_early(self, run: Run) -> None:
        if not self._entered:
            raise RuntimeError(
                f"the queue is full (max_queue_size is {self._config.max_queue_size}) and no worker is running: "
                "use `async with` around the processor, or call process_all(), or process_stream()"
            )
        run.start()

    def _forget(self, run: Run) -> None:
        if self._run is run:
            self._run = None
            self._ids = set()


def _callable(name: str, value: T) -> T:
    if value is not None and not callable(value):
        raise ValueError(f"{name} is {value!r:.200}; it must be a function, or None")
    return value
