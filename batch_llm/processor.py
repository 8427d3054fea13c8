"""The public way in: add work items, or stream them, and have them processed in parallel."""

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
    """Takes work items and gives a result for each; `async with` cleans up at its end."""

    @abstractmethod
    async def add_work(self, work_item: LLMWorkItem[TInput, TOutput, TContext]) -> None:
        """Add one item."""

    @abstractmethod
    async def process_all(self) -> BatchResult[TOutput, TContext]:
        """Process what was added and return its results in the order of adding."""

    async def cleanup(self) -> None:
        """Give back what the processor holds; may be called more than once."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.cleanup()


class ParallelBatchProcessor(BatchProcessor[TInput, TOutput, TContext]):
    """Processes items with up to `max_workers` calls at once, with retries, and one cooldown for all.

    A run begins with `process_all`, with the `add_work` that finds a bounded queue full, or with `process_stream`. At
    its end, however it ends, its prepared strategies are cleaned up and no task is left. Another run may follow.

    What users' code hands in is checked: a prompt that is no text, a classifier's or a middleware's value with wrong
    fields fail their item (`programming`), and never the run. A hook that takes more than 60 s is named in the log,
    and again each time that doubles; `ProcessorConfig.hook_timeout` bounds it.

    A processor belongs to one event loop while a run is open. Processors in several threads, each in a loop of its own,
    may share a governor and observers.

    Calls start no faster than the event loop can take them: between two rounds of it, starts get 20 ms. A run whose
    calls wait for that most of the time says so once, in a warning that tells what to do.

    Args:
        config: How it runs.
        post_processor: Called with the result of every item, success or not; a plain function runs in a thread. What
            it raises is logged and the result stands.
        progress_callback: Called with `(completed, total, item_id)` after every item, one call at a time; a plain
            function runs in a thread. The total of a stream is what was pulled so far.
        error_classifier: Tells what can be tried again. Default: `DefaultErrorClassifier()`.
        rate_limit_strategy: Tells how long a cooldown lasts. Default: `ExponentialBackoffStrategy` with the values of
            `config.rate_limit`.
        middlewares: Called in order before an item, and in reverse after it.
        observers: Told of events, beside the calls.
        governor: Paces the calls by the provider's limit, which it finds or is told; may be shared by processors.
            Without one, calls start as workers are free, and a cooldown ends in a slow start.

    Raises:
        ValueError: An argument is not what it must be; `config` is looked at again at the start of each run, which
            takes a copy of it.
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
        self._run: Run | None = None  # being filled, or at work
        self._latest: Run | None = None
        self._ids: set[str] = set()
        self._entered = False
        self._stop_asked = False

    @property
    def stopped_by(self) -> ErrorInfo | None:
        """Why the current or the latest run ended early: a fatal error, or category `stopped`; else None."""
        return self._latest.stopped_by if self._latest is not None else None

    async def __aenter__(self) -> Self:
        self._entered = True
        return self

    async def add_work(self, work_item: LLMWorkItem[TInput, TOutput, TContext]) -> None:
        """Add one item to the run that is open, or to the next one.

        With `max_queue_size`, a full queue starts the workers inside `async with`, and this waits for room; called
        from a hook of the run itself, also through tasks and threads of its own, it does not wait, for the hook's own
        worker may be the one to make room.

        Raises:
            ValueError: It is no work item, or the run has one of that id already; or a setting was changed to one that
                cannot be.
            RuntimeError: The queue is full outside `async with`, where nobody would empty it; or a stream is running;
                or the run broke, from what broke it.
        """
        check_is_item(work_item)
        run = self._current()
        if run.is_stream:
            raise RuntimeError("process_stream is running: let its source yield the item, or wait for its end")
        if work_item.item_id in self._ids:
            raise ValueError(f"item_id {work_item.item_id!r} was added already: give every item of a run its own")
        if run.is_full and run.task is None:
            self._start_early(run)
        ids = self._ids
        ids.add(work_item.item_id)
        try:
            await run.add(work_item)
        except BaseException:  # a cancelled wait for room, for one: the item may be added again
            ids.discard(work_item.item_id)
            raise

    async def process_all(self) -> BatchResult[TOutput, TContext]:
        """Process what was added, and what is added meanwhile; return the results in the order of adding.

        Called again, it processes what was added since. When it is cancelled, calls in flight are cancelled, prepared
        strategies are cleaned up, items without a result are dropped, and `results_so_far()` has what was finished;
        `CancelledError` comes out, whatever hooks made of it.

        Raises:
            ValueError: A setting was changed to one that cannot be.
            RuntimeError: A run is under way, or this one was cancelled by `cleanup`.
            BaseException: What broke the run, also where it had begun before.
        """
        run = self._current()
        if run.is_draining or run.is_stream:
            raise RuntimeError("a run is under way: wait for its end before you start another one")
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

        At most `max_workers + max_queue_size` items are between their pull and the yield of their result, so memory
        does not grow with the length, and a consumer that is slow slows the calls down. A plain iterable is read in
        the event loop. Ids are not compared. To leave before the end, wrap it in `contextlib.aclosing`: leaving
        cancels the calls in flight.

        Raises:
            RunStopped: A fatal error ended it early; after the last result. `stop()` ends it without.
            RuntimeError: A run is open, or items were added that no `process_all` has processed.
            Exception: What `items` raises, after the results of what it gave before.
        """
        if self._run is not None and not self._run.is_over:
            raise RuntimeError("a run is open or items were added: await process_all() before you stream")
        run = self._run = self._open(items)
        run.start()
        try:
            while run.finished or await run.finished.filled():
                yield run.claim()
            await run.ended()
            if run.stopped_by is not None and run.stopped_by is not STOPPED:
                raise RunStopped(run.stopped_by) from run.stopped_from
        finally:
            await run.cancel()
            self._forget(run)

    def results_so_far(self) -> BatchResult[TOutput, TContext]:
        """Return what is finished in the current or latest run, in order; of a stream, what it has not yielded yet."""
        return BatchResult(self._latest.finished.in_order() if self._latest is not None else [])

    def stop(self) -> None:
        """End the run gracefully, or the next one where none is open: no further call starts.

        Calls in flight end as they would, waits for a backoff or a cooldown end at once, and what was added or pulled
        and has not started gets a result of category `not_attempted`. To be called in the event loop.
        """
        if self._run is not None:
            self._run.stop(STOPPED)
        else:
            self._stop_asked = True

    async def cleanup(self) -> None:
        """Cancel the run that is open, if any, and drop the items that wait."""
        self._entered = False
        if self._run is not None:
            run = self._run
            await run.cancel()
            self._forget(run)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Clean up; a run that broke, and nobody knows yet, is an error where there is no other."""
        run = self._run
        cause = await run.cause() if run is not None and run.is_broken else None
        await self.cleanup()
        if cause is not None and exc is None:
            raise cause

    def _current(self) -> Run:
        """The run that takes work; one that is cleaning up takes none any more, and one that broke stays until told."""
        if self._run is not None and self._run.is_over and not self._run.is_broken:
            self._forget(self._run)
        if self._run is not None and self._run.loop is not asyncio.get_running_loop():
            raise RuntimeError(
                "a run of this processor is open in another event loop: give each loop its own processor"
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
                f"the queue is full (max_queue_size is {self._config.max_queue_size}) and nobody empties it: "
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
