"""Execution of one item: its hooks and its attempts.

waiting ──gate opens──> calling ──answer─────────────────────> succeeded
   ^                       │
   │                     error ──decide()──> Fail ───────────> failed, and with a fatal category the run stops
   │                                   ├───> Retry(wait) ───┐
   │                                   └───> CoolDown ──────┤  (no retries left: failed immediately)
   └────────── backoff or cooldown is over ─────────────────┘

waiting ──the run stops──> failed with the last error, or not attempted if there was no call yet
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from batch_llm.config import ProcessorConfig
from batch_llm.errors import AttemptTimedOut, CallCancelled, CallFailed, ErrorClassifier, ErrorInfo, RequestTooLarge
from batch_llm.items import AnyResult, AnyWorkItem
from batch_llm.observers.base import ProcessingEvent
from batch_llm.pacing.gate import Gate
from batch_llm.pacing.pacer import CallOutcome, CallPermit
from batch_llm.rate_limit import RateLimitStrategy
from batch_llm.strategies.base import LLMCallStrategy

from . import cancellation
from .fatal_errors import FatalErrorCounter
from .hook_watch import HookSlot
from .hooks import Hooks
from .item_state import ItemState, cancelled, skipped
from .lifecycle import StrategyLifecycle
from .retry_policy import CoolDown, Decision, Fail, Retry, decide, draw, seconds
from .timeouts import Deadlines
from .user_errors import log_unless_run_ends, undo_own_cancellation
from .user_values import (
    PROGRAMMING,
    Crashed,
    InvalidValue,
    as_exception,
    check_answer,
    check_info,
    failure_in,
    in_words,
    shown,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ItemRunner:
    """Runner of single items, shared by all workers of a run.

    Attributes:
        stop: Function that stops the run early, for the given reason.
        is_ending: Function that returns whether the run cancels its workers; any other cancellation comes from users'
            code.
    """

    config: ProcessorConfig
    classifier: ErrorClassifier
    rate_limits: RateLimitStrategy
    gate: Gate
    lifecycle: StrategyLifecycle
    hooks: Hooks
    deadlines: Deadlines
    fatal_errors: FatalErrorCounter
    stop: Callable[[ErrorInfo, Exception | None], None]
    is_ending: Callable[[], bool]

    async def run(self, item: AnyWorkItem, slot: HookSlot) -> AnyResult:
        """Return the item's result; errors and invalid values of users' code fail the item, never the run."""
        state, item_id, context = ItemState(), item.item_id, item.context
        if self.gate.stopped:
            return state.result(item_id, context)
        clock = self.gate.clock
        started = clock()
        if self.hooks.observed:
            self.hooks.emit(ProcessingEvent.ITEM_STARTED, {"item_id": item_id})
        try:
            changed = await self.hooks.before(slot, item) if self.hooks.wrapped else item
            result = skipped(item_id, context) if changed is None else await self._attempt(changed, state, item, slot)
            if self.hooks.wrapped:
                result = await self.hooks.after(slot, item_id, changed or item, result)
            result.duration_seconds = clock() - started
        except cancellation.NEVER_SUPPRESSED:
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and self.is_ending():
                self.hooks.finished(cancelled(item_id, clock() - started))
                raise
            result = await self._give_up(error, state, item_id, context)
            result.duration_seconds = clock() - started
        return result

    async def _give_up(self, error: BaseException, state: ItemState, item_id: str, context: Any) -> AnyResult:
        """Return a failed result for an unexpected error, so that only this item fails."""
        await undo_own_cancellation(error, self.is_ending)
        logger.warning("Item %s failed with an unexpected error", item_id, exc_info=error)
        state.error = _cancelled_by_itself() if isinstance(error, asyncio.CancelledError) else as_exception(error)
        state.info = PROGRAMMING
        return state.result(item_id, context)

    async def _attempt(self, item: AnyWorkItem, state: ItemState, original: AnyWorkItem, slot: HookSlot) -> AnyResult:
        item_id, context = item.item_id, item.context
        call = self._rehearse if self.config.dry_run else self._execute
        clock = self.gate.clock
        size = len(item.prompt) if type(item.prompt) is str else None
        if size is None or self.gate.too_large(size):
            size = self._size(item, state, original)
        while size is not None and (permit := self.gate.enter_at_once(size) or await self.gate.enter(size)):
            began = clock()
            try:
                if not self.config.dry_run and not self.lifecycle.is_ready(item.strategy):
                    self.gate.finish(permit, "not sent")
                    await self._prepare(item.strategy)
                    continue  # a cooldown may have started meanwhile
                answer = await call(item, state.attempt, slot)
                if type(answer) is not tuple or len(answer) != 2 or not isinstance(answer[1], dict):  # pyright: ignore[reportUnknownArgumentType]
                    check_answer(answer, item.strategy)
                if not self.config.dry_run:
                    state.calls += 1
                usage = state.bill(answer[1])  # pyright: ignore[reportUnknownArgumentType]
            except Exception as error:
                state.call_seconds = clock() - began
                if not await self._try_again(item_id, state, error, permit):
                    break
            else:
                state.call_seconds = clock() - began
                self.gate.finish(permit, "answered", usage)
                self.fatal_errors.in_a_row = 0
                if self.config.enable_detailed_logging:
                    logger.debug("Item %s, attempt %s: answered", item_id, state.attempt)
                return state.result(item_id, context, answer[0])
        if state.error is not None:
            await self.hooks.failed(slot, item, state.error)
        return state.result(item_id, context)

    def _size(self, item: AnyWorkItem, state: ItemState, original: AnyWorkItem) -> int | None:
        """Return the number of characters of a prompt; None if it cannot be sent, with the reason in `state`."""
        prompt = item.prompt
        if not isinstance(prompt, str):  # pyright: ignore[reportUnnecessaryIsInstance]  callers may be untyped
            where = "the item" if item is original else "the item that before_process returned"
            error = InvalidValue(f"the prompt of {where} is {shown(prompt)}; it must be a string")
            state.error, state.info = error, PROGRAMMING
            return None
        size = len(prompt)
        if problem := self.gate.too_large(size):
            state.error, state.info = RequestTooLarge(problem), ErrorInfo(False, category="invalid_request")
            return None
        return size

    async def _try_again(self, item_id: str, state: ItemState, error: Exception, permit: CallPermit) -> bool:
        """Apply the retry policy to a failed call, including waits; return whether to try the item again."""
        info, usage = self._note(item_id, state, error)
        ends_run = self.fatal_errors.record(info.category)
        decision = decide(
            info, state.attempt, state.limited, state.never_sent, config=self.config, draw=draw(), ends_run=ends_run
        )
        if self.gate.finish(permit, _outcome(info, decision), usage):
            await self._cool_down(item_id, info)
        match decision:
            case Retry(wait, counts):
                data = {"item_id": item_id, "attempt": state.attempt, "wait": wait, "category": info.category}
                self.hooks.emit(ProcessingEvent.RETRY_SCHEDULED, data)
                state.attempt += counts
                state.never_sent += not counts
                await self.gate.back_off(wait)
                return True
            case CoolDown(again):
                state.limited += 1
                if self.gate.is_hopeless:
                    self.stop(replace(info, is_retryable=False), state.error)
                return again
            case Fail(fatal):
                if fatal:
                    self.stop(info, state.error)
                return False

    async def _cool_down(self, item_id: str, info: ErrorInfo) -> None:
        pause = self.config.rate_limit.cooldown_seconds
        try:
            async with asyncio.timeout(self.config.timeout_per_item):
                pause = seconds(await self.rate_limits.handle_rate_limit(info, self.gate.state.episodes), default=pause)
            await undo_own_cancellation(None, self.is_ending)
        except BaseException as error:
            name = type(self.rate_limits).__name__
            await log_unless_run_ends(error, self.is_ending, "%s raised an error; the cooldown is %s s", name, pause)
        finally:  # also if cancelled: a cooldown without an end would block all calls forever
            self.gate.set_cooldown_end(self.gate.clock() + pause)
        logger.info("Rate limit on item %s: no call starts for %.1f s", item_id, pause)
        data = {"item_id": item_id, "pause": pause, "limit": self.gate.state.rate}
        self.hooks.emit(
            ProcessingEvent.RATE_LIMIT_HIT, {key: value for key, value in data.items() if value is not None}
        )

    async def _prepare(self, strategy: LLMCallStrategy[Any]) -> None:
        try:
            await self.lifecycle.prepare(strategy)
        except BaseException as error:
            await self._raise(error)
        if await undo_own_cancellation(None, self.is_ending):
            raise _cancelled_by_itself()

    async def _execute(self, item: AnyWorkItem, attempt: int, slot: HookSlot) -> Any:
        limit = self.config.timeout_per_item
        deadline = self.deadlines.one()
        try:
            with deadline:
                answer = await item.strategy.execute(item.prompt, attempt, limit)
        except BaseException as error:
            if not isinstance(error, cancellation.NEVER_SUPPRESSED):
                await undo_own_cancellation(error, self.is_ending)
            if deadline.expired and isinstance(error, Exception):
                late = AttemptTimedOut(f"no answer within {limit:g} s (timeout_per_item)")
                raise (CallFailed(late, failure_in(error)[1]) if isinstance(error, CallFailed) else late) from error
            return await self._raise(error)
        if slot.task.cancelling() and await undo_own_cancellation(None, self.is_ending):
            raise _cancelled_by_itself()
        return answer

    async def _rehearse(self, item: AnyWorkItem, attempt: int, slot: HookSlot) -> Any:
        """Return an answer without a call, from the strategy's `dry_run(prompt)` if it has one."""
        nothing = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
        own = getattr(item.strategy, "dry_run", None)
        if own is None:
            return f"dry run of item {item.item_id}", nothing
        try:
            output = own(item.prompt)
            output = await output if inspect.isawaitable(output) else output
        except BaseException as error:
            await self._raise(error)
        if await undo_own_cancellation(None, self.is_ending):
            raise _cancelled_by_itself()
        return output, nothing

    async def _raise(self, error: BaseException) -> NoReturn:
        """Raise the error of a strategy as the error of its item, or the cancellation of the run.

        Raises:
            asyncio.CancelledError: The run cancels this worker, even if the strategy raised another error.
            Exception: The error that the item fails with.
        """
        if isinstance(error, cancellation.NEVER_SUPPRESSED):
            raise error
        await undo_own_cancellation(error, self.is_ending)
        if isinstance(error, asyncio.CancelledError):
            raise _cancelled_by_itself() from error
        raise as_exception(error)

    def _note(self, item_id: str, state: ItemState, error: Exception) -> tuple[ErrorInfo, dict[str, int]]:
        """Record the usage and the error of a failed call; return its classification and usage."""
        state.calls += 1
        error, usage = failure_in(error)
        usage = state.bill(usage)
        state.error, state.info = self._classify(error)
        if self.config.enable_detailed_logging:
            logger.debug("Item %s, attempt %s: %s", item_id, state.attempt, in_words(state.error), exc_info=error)
        return state.info, usage

    def _classify(self, error: Exception) -> tuple[Exception, ErrorInfo]:
        if isinstance(error, InvalidValue | Crashed):
            return error, PROGRAMMING
        name = type(self.classifier).__name__
        try:
            info = self.classifier.classify(error)
            check_info(info, f"{name}.classify")
        except cancellation.NEVER_SUPPRESSED:
            raise
        except BaseException as own:
            logger.warning("The error classifier %s raised an error", name, exc_info=own)
            return as_exception(own), PROGRAMMING
        return error, info


def _cancelled_by_itself() -> CallCancelled:
    return CallCancelled("the call was cancelled by its own code, not by the run")


def _outcome(info: ErrorInfo, decision: Decision) -> CallOutcome:
    """Return the outcome of a failed call for the gate; a rate limit that ends the run needs no cooldown."""
    if isinstance(decision, CoolDown):
        return "rate limited"
    return "connect timed out" if info.never_sent else "failed"
