"""Run: supervises the workers, counts the totals and cleans up.

    filling ──start()──> running ──drain()──> draining ──the last item is done──> ending ──> done
                            │                    │
                            └────── stop() ──────┤  no further call starts; remaining items are not attempted
                            └────── cancel ──────┴─> ending: workers are cancelled

The end is the same in all cases: workers stop, prepared strategies are cleaned up, observers receive the last events.
Items that are added while a run is draining belong to it: it completes when no item waits and no call is in flight.
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import asdict
from typing import Any

from batch_llm.config import ProcessorConfig
from batch_llm.errors import ErrorClassifier, ErrorInfo
from batch_llm.items import AnyResult, AnyWorkItem
from batch_llm.observers.base import ProcessingEvent
from batch_llm.pacing.gate import Gate
from batch_llm.pacing.pacer import Pacer
from batch_llm.pacing.slow_start import SlowStart
from batch_llm.rate_limit import RateLimitStrategy

from . import cancellation
from .attempts import ItemRunner
from .fatal_errors import FatalErrorCounter
from .finished_results import Finished
from .hook_watch import HookSlot
from .hooks import Hooks
from .lifecycle import StrategyLifecycle
from .stream import Source, feed
from .timeouts import Deadlines
from .totals import Totals
from .workers import WorkerPool

logger = logging.getLogger(__name__)

STOPPED = ErrorInfo(is_retryable=True, category="stopped")
"""Reason of a run that was stopped by a call of `stop()`."""


class Run:
    """One run of items, used by `process_all` and `process_stream`.

    With a `source`, the run is a stream: an item occupies one of `max_workers + max_queue_size` slots from its pull
    until its result is claimed. Without a source, it occupies one of `max_queue_size` slots until a worker takes it.

    Attributes:
        is_stream: Whether its items come from a source.
        is_ending: Function that returns whether the workers are being cancelled.
        finished: Results that were not claimed yet, in the order of completion.
        stopped_by: Why the run ended early, if it did.
        stopped_from: Error that made it end early.
        loop: Event loop of the run.
        task: Task that owns all others of the run; None before its start.
    """

    def __init__(
        self,
        config: ProcessorConfig,
        classifier: ErrorClassifier,
        rate_limits: RateLimitStrategy,
        hooks: Hooks,
        source: Source | None = None,
        governor: Pacer | None = None,
    ) -> None:
        self._config = config
        self._hooks = hooks
        pacer = SlowStart(config.rate_limit) if governor is None or config.dry_run else governor  # a dry run uses none
        self._gate = Gate(pacer)
        self._lifecycle = StrategyLifecycle(config.timeout_per_item)
        self._deadlines = Deadlines(config.timeout_per_item)
        slots = config.max_queue_size if source is None else config.max_workers + config.max_queue_size
        self._workers = WorkerPool(config.max_workers, slots or math.inf, source is None, self._process, hooks)
        self.is_ending = self._workers.is_ending
        self._attempts = ItemRunner(
            config,
            classifier,
            rate_limits,
            self._gate,
            self._lifecycle,
            hooks,
            self._deadlines,
            FatalErrorCounter(pacer.state),
            self.stop,
            self.is_ending,
        )
        self._source = source
        self._source_error: BaseException | None = None
        self._interrupt: BaseException | None = None  # the exception that stopped the event loop
        self.is_stream = source is not None
        self._cancelled = False
        self._totals = Totals()
        self.finished = Finished()
        self.stopped_by: ErrorInfo | None = None
        self.stopped_from: Exception | None = None
        self.loop = asyncio.get_running_loop()
        self.task: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether the run takes no more work."""
        return self._workers.is_over

    @property
    def is_draining(self) -> bool:
        """Whether the run ends as soon as no item waits and no call is in flight."""
        return self._workers.is_draining

    @property
    def is_broken(self) -> bool:
        """Whether the run failed while no caller was waiting for it; `ended` raises the cause."""
        return self.is_over and not self.is_draining and not self._cancelled

    @property
    def is_full(self) -> bool:
        """Whether the next item has to wait for a free slot."""
        return self._workers.is_full

    async def add(self, item: AnyWorkItem) -> None:
        """Add an item that was checked, once a slot is free; the run does not end before.

        Raises:
            RuntimeError: The run was cancelled or failed before; raised from the cause of the failure.
        """
        if not await self._workers.add(item):
            cause = await self.cause()
            how = "was cancelled" if cause is None else "failed"
            raise RuntimeError(f"the run {how} before item {item.item_id!r} was added") from cause

    async def cause(self) -> BaseException | None:
        """Wait for a run that is over, unless a worker of the run calls this; return the error that made it fail."""
        if self.task is None or self._workers.runs_current_code:
            return None
        await asyncio.wait([self.task])
        return self._interrupt if self.task.cancelled() else self.task.exception()

    def start(self) -> None:
        """Start the supervising task."""
        self.task = asyncio.create_task(self._supervise(), name="batch-llm run")
        self.task.add_done_callback(lambda _: self.finished.close())

    def drain(self) -> None:
        """Complete as soon as no item waits and no call is in flight."""
        self._workers.drain()

    def stop(self, reason: ErrorInfo, error: Exception | None = None) -> None:
        """End early: calls in flight complete, waits end, and the remaining items get a result without a call."""
        if self.stopped_by is None and not self.is_over:
            self.stopped_by, self.stopped_from = reason, error
            logger.warning("The run stops early (%s): no further call starts", reason.category)
            self._gate.stop()
            self._workers.stop_feeding()

    async def ended(self) -> None:
        """Wait until the run is done; if the caller is cancelled, the run is cancelled too, and awaited.

        Raises:
            asyncio.CancelledError: The caller was cancelled.
            Exception: Error of the source; the items before the error are done.
            BaseException: Error that made the run fail.
        """
        before = cancellation.requests()
        if self.task is not None:
            try:
                await self.task
            except (Exception, asyncio.CancelledError) as error:
                if cancellation.requests() > before:
                    raise error if isinstance(error, asyncio.CancelledError) else asyncio.CancelledError from error
                if self._interrupt is not None:
                    raise self._interrupt from None
                if not isinstance(error, asyncio.CancelledError):
                    raise
                raise RuntimeError("the run was cancelled by cleanup(), or by the end of `async with`") from error
            if cancellation.requests() > before:
                raise asyncio.CancelledError
        if self._source_error is not None:
            raise self._source_error

    async def cancel(self) -> None:
        """Cancel the run in any state, and wait until all of its tasks are done."""
        if self.task is not None:
            self._cancelled = not self.is_broken
            self.task.cancel()
            await asyncio.wait([self.task])
            if not self.task.cancelled():
                self.task.exception()  # marks it as retrieved; `cause` returns it

    async def _supervise(self) -> None:
        started = asyncio.get_running_loop().time()
        self._hooks.open()
        data: dict[str, Any] = {"total": self._workers.added, "max_workers": self._config.max_workers}
        self._hooks.emit(ProcessingEvent.PROCESSING_STARTED, data)
        cancelled = True
        try:
            if self._source is None or self.stopped_by is not None:
                if self.is_stream:
                    self.drain()
                await self._workers.run()
            else:
                await self._workers.run(self._feed(self._source))
            cancelled = False
        except (KeyboardInterrupt, SystemExit) as error:
            # It already stopped the loop when it left its worker; raised here, it would stop the loop's shutdown too.
            self._interrupt = error
            raise asyncio.CancelledError from error
        finally:
            self._deadlines.close()
            try:
                await self._lifecycle.close()
            finally:
                self._totals.log_end(self._workers.added, cancelled)
                self._emit_end(asyncio.get_running_loop().time() - started, cancelled)
                await self._hooks.close()

    def _emit_end(self, duration: float, cancelled: bool) -> None:
        reason = self.stopped_by.category if self.stopped_by else None
        end = {"duration": duration, "stopped_by": reason, "cancelled": cancelled}
        data = {"total": self._workers.added} | asdict(self._totals) | end
        self._hooks.emit(ProcessingEvent.PROCESSING_COMPLETED, data)

    async def _feed(self, source: Source) -> None:
        error = await feed(source, self._workers)
        if error is not None and self.stopped_by is None:
            self._source_error = error
        elif error is not None:  # the source was cancelled
            logger.warning("The source of the stream raised an error while it was closed", exc_info=error)

    async def _process(self, item: AnyWorkItem, position: int, slot: HookSlot) -> None:
        result = await self._attempts.run(item, slot)
        item_id = result.item_id  # a post-processor may change it
        self._totals.count(result, self._workers.added, self._config.progress_interval)
        self.finished.add(position, result)
        if self._hooks.observed:
            self._hooks.finished(result)
        if (callbacks := self._hooks.callbacks) is not None:
            await callbacks.post_process(slot, item_id, result)
            await callbacks.progress(slot, self._workers.added, item_id)

    def claim(self) -> AnyResult:
        """Return the oldest finished result, and free the slot of its item."""
        self._workers.queue.free()
        return self.finished.take()
