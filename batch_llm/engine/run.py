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
from .fatal_errors import Denials
from .finished_results import Finished
from .hook_watch import HookSlot
from .hooks import Hooks
from .lifecycle import StrategyLifecycle
from .stream import Source, feed
from .timeouts import Deadlines
from .totals import Totals
from .user_values import check_is_item
from .work_queue import WorkQueue
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
        is_over: Whether it takes no more work.
        is_draining: Whether it ends as soon as nothing waits and nothing is in flight.
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
        self._attempts = ItemRunner(
            config,
            classifier,
            rate_limits,
            self._gate,
            self._lifecycle,
            hooks,
            self._deadlines,
            Denials(pacer),
            self.stop,
            self.is_ending,
        )
        self._source = source
        self._source_error: BaseException | None = None
        self._interrupt: BaseException | None = None  # the exception that stopped the event loop
        places = config.max_queue_size if source is None else config.max_workers + config.max_queue_size
        self._queue = WorkQueue[AnyWorkItem](places or math.inf)
        self._group = asyncio.TaskGroup()
        self._workers = WorkerPool(
            self._group, config.max_workers, self._queue, self._process, self._end_if_done, self.is_ending, hooks
        )
        self._feeder: asyncio.Task[None] | None = None
        self._coming = 0  # items that wait for room
        self.is_stream = source is not None
        self.is_draining = self.is_over = self._cancelled = False
        self._reported = 0  # not those with a result: post-processors overtake each other
        self._over = asyncio.Event()
        self._totals = Totals()
        self.finished = Finished()
        self._taken = 0
        self.stopped_by: ErrorInfo | None = None
        self.stopped_from: Exception | None = None
        self.loop = asyncio.get_running_loop()
        self.task: asyncio.Task[None] | None = None

    @property
    def is_broken(self) -> bool:
        """Whether the run failed while no caller was waiting for it; `ended` raises the cause."""
        return self.is_over and not self.is_draining and not self._cancelled

    @property
    def is_full(self) -> bool:
        """Whether the next item has to wait for a free slot; hooks never wait, as only workers free slots."""
        return self._queue.is_full and not self._workers.runs_current_code

    async def add(self, item: AnyWorkItem) -> None:
        """Add an item that was checked, once there is room; the run does not end before.

        Raises:
            RuntimeError: The run was cancelled or failed before; raised from the cause of the failure.
        """
        self._coming += 1
        try:
            if self.is_full:
                await self._queue.room()
                check_is_item(item)  # it may have been changed meanwhile
            if self.is_over:
                cause = await self.cause()
                how = "was cancelled" if cause is None else "failed"
                raise RuntimeError(f"the run {how} before item {item.item_id!r} was added") from cause
            self._submit(item)
        finally:
            self._coming -= 1
            self._end_if_done()

    async def cause(self) -> BaseException | None:
        """Wait for a run that is over, unless a worker of the run calls this; return the error that made it fail."""
        if self.task is None or self._workers.runs_current_code:
            return None
        await asyncio.wait([self.task])
        return self._interrupt if self.task.cancelled() else self.task.exception()

    def _submit(self, item: AnyWorkItem) -> None:
        self._queue.put(item)
        self._totals.total += 1
        self._workers.spawn()

    def _submit_checked(self, item: AnyWorkItem) -> None:
        check_is_item(item)
        self._submit(item)

    def start(self) -> None:
        """Start the supervising task."""
        self.task = asyncio.create_task(self._supervise(), name="batch-llm run")
        self.task.add_done_callback(lambda _: self.finished.close())

    def drain(self) -> None:
        """Complete as soon as no item waits and no call is in flight."""
        self.is_draining = True
        self._end_if_done()

    def stop(self, reason: ErrorInfo, error: Exception | None = None) -> None:
        """End early: calls in flight complete, waits end, and the remaining items get a result without a call."""
        if self.stopped_by is None and not self.is_over:
            self.stopped_by, self.stopped_from = reason, error
            logger.warning("The run stops early (%s): no further call starts", reason.category)
            self._gate.stop()
            if self._feeder is not None:
                self._feeder.cancel()

    def is_ending(self) -> bool:
        """Return whether the workers are being cancelled, because of the run or of a bug in one of the workers."""
        return self.is_over or (self.task is not None and self.task.cancelling() > 0)

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
        data: dict[str, Any] = {"total": self._totals.total, "max_workers": self._config.max_workers}
        self._hooks.emit(ProcessingEvent.PROCESSING_STARTED, data)
        cancelled = True
        try:
            async with self._group:
                await self._work_until_over()
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
                self._totals.log_end(cancelled)
                self._emit_end(asyncio.get_running_loop().time() - started, cancelled)
                await self._hooks.close()

    async def _work_until_over(self) -> None:
        if self._source is not None and self.stopped_by is None:
            self._feeder = self._group.create_task(self._feed(self._source), name="batch-llm source")
            # Not earlier: a cancelled source may yield one more item, which needs a result too.
            self._feeder.add_done_callback(lambda _: self.drain())
        elif self._source is not None:
            self.is_draining = True
        self._workers.start()
        self._end_if_done()
        try:
            await self._over.wait()
        finally:
            self._end()

    def _emit_end(self, duration: float, cancelled: bool) -> None:
        reason = self.stopped_by.category if self.stopped_by else None
        data = asdict(self._totals) | {"duration": duration, "stopped_by": reason, "cancelled": cancelled}
        self._hooks.emit(ProcessingEvent.PROCESSING_COMPLETED, data)

    async def _feed(self, source: Source) -> None:
        error = await feed(source, self._queue, self._submit_checked, lambda: self.stopped_by is not None)
        if error is not None and self.stopped_by is None:
            self._source_error = error
        elif error is not None:  # the source was cancelled
            logger.warning("The source of the stream raised an error while it was closed", exc_info=error)

    async def _process(self, item: AnyWorkItem, slot: HookSlot) -> None:
        position = self._taken  # items are taken in the order in which they came
        self._taken += 1
        if self._source is None:
            self._queue.free()
        result = await self._attempts.run(item, slot)
        item_id = result.item_id
        self._record(position, result)
        if self._hooks.called_back:
            slot.item_id = item_id
            await self._hooks.post_process(slot, result)
            self._reported += 1
            await self._hooks.progress(slot, self._reported, self._totals.total, item_id)

    def _record(self, position: int, result: AnyResult) -> None:
        """Count a result, make it available, and emit its event."""
        self._totals.count(result, self._config.progress_interval)
        self.finished.add(position, result)
        if self._hooks.observed:
            self._hooks.finished(result)

    def _end_if_done(self) -> None:
        if self.is_draining and not (self._workers.busy or self._coming or self._queue):
            self._end()

    def _end(self) -> None:
        self.is_over = True
        self._over.set()
        self._workers.stop()

    def claim(self) -> AnyResult:
        """Return the oldest finished result, and free the slot of its item."""
        self._queue.free()
        return self.finished.take()
