"""One item: its hooks, and its attempts.

waiting ──gate opens──> calling ──answer─────────────────────> succeeded
   ^                       │
   │                     error ──decide()──> Fail ───────────> failed, and with a fatal category the run stops
   │                                   ├───> Retry(wait) ───┐
   │                                   └───> CoolDown ──────┤  (no tries left: failed at once)
   └────────────────── rested, or the gate reopens ─────────┘

waiting, resting ──the run stops──> failed with the last error, or not attempted where there was no call yet
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from . import _cancellation
from ._deadlines import Deadlines
from ._denials import Denials
from ._gate import Gate
from ._hooks import Hooks
from ._jitter import draw
from ._lifetimes import Lifetimes
from ._policy import CoolDown, Fail, Retry, decide, seconds
from ._tries import Tries, cancelled, in_words, skipped
from ._turn import Turn
from .config import ProcessorConfig
from .errors import (
    AttemptTimedOut,
    BatchLLMError,
    CallCancelled,
    CallFailed,
    ErrorClassifier,
    ErrorInfo,
    RequestTooLarge,
)
from .items import AnyResult, AnyWorkItem
from .observers.base import ProcessingEvent
from .rate_limit import RateLimitStrategy
from .strategies.base import LLMCallStrategy

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Attempts:
    """What every item of a run meets on its way: `run(item)` is that way.

    Attributes:
        stop: Ends the run early, for the reason given.
        is_ending: Whether the run takes its workers down; a cancellation at any other time is a call's own doing.
    """

    config: ProcessorConfig
    classifier: ErrorClassifier
    rate_limits: RateLimitStrategy
    gate: Gate
    lifetimes: Lifetimes
    hooks: Hooks
    deadlines: Deadlines
    denials: Denials
    stop: Callable[[ErrorInfo], None]
    is_ending: Callable[[], bool]

    async def run(self, item: AnyWorkItem) -> AnyResult:
        """Return the item's result; what its strategy or its hooks raise ends the item, never the run."""
        if self.gate.stopped:
            return Tries().result(item)
        clock = self.gate.clock
        started = clock()
        if self.hooks.observed:
            self.hooks.emit(ProcessingEvent.ITEM_STARTED, {"item_id": item.item_id})
        try:
            changed = await self.hooks.before(item) if self.hooks.wrapped else item
            result = skipped(item) if changed is None else await self._attempt(changed)
            if self.hooks.wrapped:
                result = await self.hooks.after(changed or item, result)
        except asyncio.CancelledError:
            self.hooks.finished(cancelled(item, clock() - started))
            raise
        result.duration_seconds = clock() - started
        return result

    async def _attempt(self, item: AnyWorkItem) -> AnyResult:
        tries = Tries()
        call = self._rehearse if self.config.dry_run else self._execute
        size = len(item.prompt)
        if problem := self.gate.too_large(size):
            tries.error, tries.info = RequestTooLarge(problem), ErrorInfo(False, category="invalid_request")
        while not problem and (turn := self.gate.enter_at_once(size) or await self.gate.enter(size)):
            try:
                if not self.config.dry_run and not self.lifetimes.is_ready(item.strategy):
                    self.gate.unsent(turn)
                    await self._prepare(item.strategy)
                    continue  # back to the gate, which may have closed meanwhile
                output, usage = self._bill(item, tries, await call(item, tries.attempt))
            except Exception as error:
                if not await self._try_again(item, tries, error, turn):
                    break
            else:
                self.gate.succeeded(turn, usage)
                self.denials.answered()
                return tries.result(item, output)
        if tries.error is not None:
            await self.hooks.failed(item, tries.error)
        return tries.result(item)

    async def _try_again(self, item: AnyWorkItem, tries: Tries, error: Exception, turn: Turn) -> bool:
        """Do what the policy says of a failed try, waits included; False to give the item up."""
        info = self._note(item, tries, error)
        self._tell_gate(turn, error, info)
        ends_run = self.denials.ends_run(info.category)
        match decide(
            info, tries.attempt, tries.limited, tries.unsent, config=self.config, draw=draw(), ends_run=ends_run
        ):
            case Retry(wait, counts):
                data = {"item_id": item.item_id, "attempt": tries.attempt, "wait": wait, "category": info.category}
                self.hooks.emit(ProcessingEvent.RETRY_SCHEDULED, data)
                tries.attempt += counts
                tries.unsent += not counts
                await self.gate.rest(wait)
                return True
            case CoolDown(again):
                tries.limited += 1
                if self.gate.begin(turn):
                    await self._cool_down(item, info)
                if self.gate.is_hopeless:
                    self.stop(replace(info, is_retryable=False))
                return again
            case Fail(fatal):
                if fatal:
                    self.stop(info)
                return False

    def _tell_gate(self, turn: Turn, error: Exception, info: ErrorInfo) -> None:
        if info.never_sent:
            self.gate.strained(turn)
        elif not info.is_rate_limit:
            self.gate.failed(turn, error.token_usage if isinstance(error, CallFailed) else {})

    async def _cool_down(self, item: AnyWorkItem, info: ErrorInfo) -> None:
        pause = self.config.rate_limit.cooldown_seconds
        try:
            async with asyncio.timeout(self.config.timeout_per_item):
                pause = seconds(await self.rate_limits.handle_rate_limit(info, self.gate.episodes), default=pause)
        except (Exception, asyncio.CancelledError):
            if _cancellation.is_requested():
                raise
            logger.warning("%s raised; the run pauses for %s s", type(self.rate_limits).__name__, pause, exc_info=True)
        finally:  # also when cancelled here: a gate that nobody reopens would hold everybody for ever
            self.gate.pause(self.gate.clock() + pause)
        logger.info("Item %s met a rate limit: no call starts for %.1f s", item.item_id, pause)
        data = {"item_id": item.item_id, "pause": pause, "limit": self.gate.rate}
        self.hooks.emit(
            ProcessingEvent.RATE_LIMIT_HIT, {key: value for key, value in data.items() if value is not None}
        )

    async def _prepare(self, strategy: LLMCallStrategy[Any]) -> None:
        try:
            await self.lifetimes.prepare(strategy)
        except asyncio.CancelledError as error:
            if self._is_cancelled():
                raise
            raise _from_within() from error

    def _bill(self, item: AnyWorkItem, tries: Tries, answer: object) -> tuple[Any, dict[str, int]]:
        """Note what an answer cost; return its output and that."""
        if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[1], dict):  # pyright: ignore[reportUnknownArgumentType]  callers may be untyped
            name = type(item.strategy).__name__
            raise _NotAnAnswer(f"{name}.execute returned {answer!r:.200}; it must return a tuple of output and dict")
        if not self.config.dry_run:
            tries.calls += 1
        tries.bill(answer[1])  # pyright: ignore[reportUnknownArgumentType]  as above
        return answer  # pyright: ignore[reportUnknownVariableType]  as above

    async def _execute(self, item: AnyWorkItem, attempt: int) -> object:
        limit = self.config.timeout_per_item
        deadline = self.deadlines.one()
        try:
            with deadline:
                return await item.strategy.execute(item.prompt, attempt, limit)
        except (Exception, asyncio.CancelledError) as error:
            if self._is_cancelled():
                raise asyncio.CancelledError from error
            if deadline.expired:
                late = AttemptTimedOut(f"no answer within {limit:g} s (timeout_per_item)")
                raise (CallFailed(late, error.token_usage) if isinstance(error, CallFailed) else late) from error
            if isinstance(error, asyncio.CancelledError):
                raise _from_within() from error
            raise

    async def _rehearse(self, item: AnyWorkItem, attempt: int) -> object:
        """Answer without a call, with the strategy's own `dry_run(prompt)` where it has one."""
        nothing = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
        own = getattr(item.strategy, "dry_run", None)
        if own is None:
            return f"dry run of item {item.item_id}", nothing
        try:
            output = own(item.prompt)
            return (await output if inspect.isawaitable(output) else output), nothing
        except asyncio.CancelledError as error:
            if self._is_cancelled():
                raise
            raise _from_within() from error

    def _is_cancelled(self) -> bool:
        """Whether the run takes this worker down; what a call asked of its own task is taken back."""
        if _cancellation.is_requested() and not self.is_ending():
            _cancellation.forgive()
        return _cancellation.is_requested()

    def _note(self, item: AnyWorkItem, tries: Tries, error: Exception) -> ErrorInfo:
        """Bill a failed try, and find out and remember what it failed with."""
        tries.calls += 1
        if isinstance(error, CallFailed):
            tries.bill(error.token_usage)
            error = error.error
        tries.error, tries.info = self._classify(error)
        if self.config.enable_detailed_logging:
            logger.debug("Item %s, attempt %s: %s", item.item_id, tries.attempt, in_words(tries.error), exc_info=error)
        return tries.info

    def _classify(self, error: Exception) -> tuple[Exception, ErrorInfo]:
        if isinstance(error, _NotAnAnswer):
            return error, ErrorInfo(is_retryable=False, category="programming")
        try:
            info = self.classifier.classify(error)
            if not isinstance(info, ErrorInfo):  # pyright: ignore[reportUnnecessaryIsInstance]  callers may be untyped
                raise TypeError(f"{type(self.classifier).__name__}.classify returned {info!r}; it must be an ErrorInfo")
        except Exception as own:
            logger.warning("%s raised", type(self.classifier).__name__, exc_info=True)
            return own, ErrorInfo(is_retryable=False, category="programming")
        return error, info


class _NotAnAnswer(BatchLLMError, TypeError):
    """A strategy returned something other than an output and its tokens: a bug in it, whatever the classifier says."""


def _from_within() -> CallCancelled:
    return CallCancelled("the call was cancelled from within, not by the run")
