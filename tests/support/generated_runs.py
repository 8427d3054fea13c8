"""Runs that Hypothesis draws: outcomes of calls, and users' code that fails."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from batch_llm import (
    BaseMiddleware,
    BaseObserver,
    CallFailed,
    ErrorInfo,
    ExponentialBackoffStrategy,
    LLMCallStrategy,
    ProcessingEvent,
    RateLimitConfig,
    RateLimitStrategy,
    RetryConfig,
    WorkItemResult,
)

from .scripted_strategies import Item, Notes, Processor, config, failure, now, processor, rate_limit

OUTCOMES = (
    *("ok", "ok", "ok", "retryable", "invalid", "validation", "limit", "limit 7", "timeout", "hang"),
    *("cancelled", "cancels itself", "odd", "billed", "auth"),
)
TIMEOUT, MAX_ATTEMPTS, MAX_LIMITS, COOLDOWN = 20.0, 3, 4, 30.0


@dataclass
class Record:
    """Record of all calls of a run, across its strategies."""

    starts: list[float] = field(default_factory=list[float])
    calls: Counter[str] = field(default_factory=Counter[str])
    limits: Counter[str] = field(default_factory=Counter[str])
    outcomes: Counter[str] = field(default_factory=Counter[str])
    billed: int = 0
    running: int = 0
    most: int = 0


@dataclass(eq=False)
class Anything(LLMCallStrategy[str]):
    """Strategy whose prompt lists the outcomes, one per call; the last one repeats."""

    record: Record
    seconds: float
    fragile: bool
    prepares: int = 0
    prepared: int = 0
    cleaned: int = 0

    async def prepare(self) -> None:
        self.prepares += 1
        await asyncio.sleep(self.seconds)
        if self.fragile and self.prepares == 1:
            self.record.outcomes["failed prepare"] += 1
            raise failure()
        self.prepared += 1

    async def cleanup(self) -> None:
        self.cleaned += 1
        if self.fragile:
            raise RuntimeError

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        name, *script = prompt.split(",")
        record = self.record
        outcome = script[min(record.calls[name], len(script) - 1)]
        record.calls[name] += 1
        record.starts.append(now())
        record.running += 1
        record.most = max(record.most, record.running)
        try:
            await asyncio.sleep(self.seconds)
            record.outcomes[outcome] += 1
            return await self.play(name, outcome)
        finally:
            record.running -= 1

    async def play(self, name: str, outcome: str) -> Any:
        match outcome:
            case "retryable":
                raise failure()
            case "invalid" | "validation" | "auth":
                raise failure(outcome, retryable=outcome == "validation")
            case "limit" | "limit 7":
                self.record.limits[name] += 1
                raise rate_limit(7 if outcome == "limit 7" else None)
            case "timeout":
                raise TimeoutError
            case "hang":
                await asyncio.sleep(10_000)
            case "cancelled":
                raise asyncio.CancelledError
            case "cancels itself":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.sleep(1)
            case "odd":
                return outcome
            case "billed":
                self.record.billed += 5
                raise CallFailed(failure(), {"input_tokens": 5})
            case _:
                self.record.billed += 1
        return "ok", {"input_tokens": 1}


class Rude(BaseMiddleware):
    """Middleware that waits and then raises or skips in every hook."""

    async def before_process(self, work_item: Item) -> Item | None:
        await asyncio.sleep(0.5)
        if work_item.item_id.endswith("0"):
            return None
        raise RuntimeError

    async def after_process(self, work_item: Item, result: WorkItemResult[str, Any]) -> WorkItemResult[str, Any]:
        await asyncio.sleep(0.5)
        raise asyncio.CancelledError

    async def on_error(self, work_item: Item, error: Exception) -> None:
        raise RuntimeError


class RudeObserver(BaseObserver):
    """Observer that raises at every event."""

    async def on_event(self, event: ProcessingEvent, data: dict[str, Any]) -> None:
        raise asyncio.CancelledError if event is ProcessingEvent.ITEM_STARTED else RuntimeError


class HangingObserver(BaseObserver):
    """Observer that hangs at the first finished item."""

    async def on_event(self, event: ProcessingEvent, data: dict[str, Any]) -> None:
        if event in (ProcessingEvent.ITEM_COMPLETED, ProcessingEvent.ITEM_FAILED):
            await asyncio.Event().wait()


class Pauses(RateLimitStrategy):
    """Limit strategy that records cooldowns; a rude one raises, so that the configured cooldown applies."""

    def __init__(self, rude: bool) -> None:
        self.spans: list[tuple[float, float]] = []
        self._rude = rude
        self._inner = ExponentialBackoffStrategy(COOLDOWN)

    async def handle_rate_limit(self, error_info: ErrorInfo, attempt: int) -> float:
        pause = COOLDOWN if self._rude else await self._inner.handle_rate_limit(error_info, attempt)
        self.spans.append((now(), now() + pause))
        if self._rude:
            raise RuntimeError
        return pause


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    scripts = st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=4)
    return {
        "scripts": draw(st.lists(scripts, max_size=12)),
        "workers": draw(st.integers(1, 6)),
        "strategies": draw(st.integers(1, 3)),
        "seconds": draw(st.sampled_from([0.0, 1.0, 3.5])),
        "slow": draw(st.sampled_from([0, 2, 5])),
        "queue": draw(st.sampled_from([0, 1, 3])),
        "rude": draw(st.booleans()),
        "fragile": draw(st.booleans()),
    }


@dataclass
class Played:
    """A drawn run and its observers."""

    record: Record
    strategies: list[Anything]
    notes: Notes
    pauses: Pauses
    engine: Processor
    work: list[Item]
    posted: list[str] = field(default_factory=list[str])
    progress: list[int] = field(default_factory=list[int])


def set_up(world: dict[str, Any]) -> Played:
    record, notes, pauses, rude = Record(), Notes(), Pauses(world["rude"]), world["rude"]
    strategies = [Anything(record, world["seconds"], world["fragile"]) for _ in range(world["strategies"])]
    setup = config(
        world["workers"],
        timeout=TIMEOUT,
        queue=world["queue"],
        retry=RetryConfig(max_attempts=MAX_ATTEMPTS),
        rate_limit=RateLimitConfig(
            cooldown_seconds=COOLDOWN, slow_start_items=world["slow"], max_rate_limit_retries=MAX_LIMITS
        ),
    )

    async def post(result: WorkItemResult[str, Any]) -> None:
        played.posted.append(result.item_id)
        if rude:
            await asyncio.sleep(0.5)
            raise RuntimeError

    async def report(completed: int, total: int, item_id: str) -> None:
        played.progress.append(completed)
        if rude:
            raise asyncio.CancelledError

    engine = processor(
        setup,
        observers=[RudeObserver(), HangingObserver(), notes] if rude else [notes],
        rate_limit_strategy=pauses,
        middlewares=[Rude()] if rude else [],
        post_processor=post,
        progress_callback=report,
    )
    work = [
        Item(str(number), strategies[number % len(strategies)], ",".join([str(number), *script]))
        for number, script in enumerate(world["scripts"])
    ]
    played = Played(record, strategies, notes, pauses, engine, work)
    return played
