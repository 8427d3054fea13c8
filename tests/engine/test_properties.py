"""Laws that hold for any script of outcomes, any number of items and workers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import looptime
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_llm import (
    BaseMiddleware,
    BatchResult,
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

from .script import Item, Notes, Processor, config, failure, now, processor, rate_limit

T = TypeVar("T")
FINISHED = (ProcessingEvent.ITEM_COMPLETED, ProcessingEvent.ITEM_FAILED)

OUTCOMES = ("ok", "ok", "retryable", "invalid", "validation", "limit", "limit 7", "hang", "cancelled", "odd", "billed")
TIMEOUT, MAX_ATTEMPTS, MAX_LIMITS = 20.0, 3, 4


def in_virtual_time(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        result = runner.run(coroutine)
        assert not asyncio.all_tasks(runner.get_loop())
        return result


@dataclass(eq=False)
class Anything(LLMCallStrategy[str]):
    """Does what the prompt says: outcomes, one a call, the last one for good."""

    seconds: float
    fragile: bool
    starts: list[float] = field(default_factory=list[float])
    calls: Counter[str] = field(default_factory=Counter[str])
    limits: Counter[str] = field(default_factory=Counter[str])
    billed: int = 0
    running: int = 0
    most: int = 0
    prepares: int = 0
    prepared: int = 0
    cleaned: int = 0

    async def prepare(self) -> None:
        self.prepares += 1
        await asyncio.sleep(self.seconds)
        if self.fragile and self.prepares == 1:
            raise failure()
        self.prepared += 1

    async def cleanup(self) -> None:
        self.cleaned += 1

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        name, *script = prompt.split(",")
        outcome = script[min(self.calls[name], len(script) - 1)]
        self.calls[name] += 1
        self.starts.append(now())
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.seconds)
            return await self.play(name, outcome)
        finally:
            self.running -= 1

    async def play(self, name: str, outcome: str) -> Any:
        match outcome:
            case "retryable":
                raise failure()
            case "invalid" | "validation" | "auth":
                raise failure(outcome, retryable=outcome == "validation")
            case "limit" | "limit 7":
                self.limits[name] += 1
                raise rate_limit(7 if outcome == "limit 7" else None)
            case "hang":
                await asyncio.sleep(10_000)
            case "cancelled":
                raise asyncio.CancelledError
            case "odd":
                return outcome
            case "billed":
                self.billed += 5
                raise CallFailed(failure(), {"input_tokens": 5})
            case _:
                self.billed += 1
        return "ok", {"input_tokens": 1}


class Rude(BaseMiddleware):
    """Raises in every hook, or skips."""

    async def before_process(self, work_item: Item) -> Item | None:
        if work_item.item_id.endswith("0"):
            return None
        raise RuntimeError

    async def after_process(self, work_item: Item, result: WorkItemResult[str, Any]) -> WorkItemResult[str, Any]:
        raise RuntimeError


class Pauses(RateLimitStrategy):
    """Remembers when the gate was closed, and until when."""

    def __init__(self) -> None:
        self.spans: list[tuple[float, float]] = []
        self._inner = ExponentialBackoffStrategy(30.0)

    async def handle_rate_limit(self, error_info: ErrorInfo, attempt: int) -> float:
        pause = await self._inner.handle_rate_limit(error_info, attempt)
        self.spans.append((now(), now() + pause))
        return pause


@st.composite
def worlds(draw: st.DrawFn, outcomes: tuple[str, ...] = OUTCOMES) -> dict[str, Any]:
    scripts = st.lists(st.sampled_from(outcomes), min_size=1, max_size=4)
    return {
        "scripts": draw(st.lists(scripts, max_size=12)),
        "workers": draw(st.integers(1, 6)),
        "seconds": draw(st.sampled_from([0.0, 1.0, 3.5])),
        "slow": draw(st.sampled_from([0, 2, 5])),
        "queue": draw(st.sampled_from([0, 1, 3])),
        "rude": draw(st.booleans()),
        "fragile": draw(st.booleans()),
    }


@dataclass
class Played:
    strategy: Anything
    notes: Notes
    pauses: Pauses
    engine: Processor
    work: list[Item]


def set_up(world: dict[str, Any]) -> Played:
    strategy, notes, pauses = Anything(world["seconds"], world["fragile"]), Notes(), Pauses()
    setup = config(
        world["workers"],
        timeout=TIMEOUT,
        queue=world["queue"],
        retry=RetryConfig(max_attempts=MAX_ATTEMPTS),
        rate_limit=RateLimitConfig(slow_start_items=world["slow"], max_rate_limit_retries=MAX_LIMITS),
    )
    hooks = [Rude()] if world["rude"] else []
    engine = processor(setup, observers=[notes], rate_limit_strategy=pauses, middlewares=hooks)
    work = [
        Item(str(number), strategy, ",".join([str(number), *script])) for number, script in enumerate(world["scripts"])
    ]
    return Played(strategy, notes, pauses, engine, work)


async def process_all(played: Played) -> BatchResult[str, Any]:
    async with played.engine as engine:
        for item in played.work:
            await engine.add_work(item)
        return await engine.process_all()


def check(played: Played, results: list[WorkItemResult[str, Any]], workers: int) -> None:
    strategy, notes = played.strategy, played.notes
    finished = [data["item_id"] for data in notes.of(*FINISHED)]
    started = [data["item_id"] for data in notes.of(ProcessingEvent.ITEM_STARTED)]
    assert Counter(finished) == Counter(each.item_id for each in results)
    assert len(started) == len(set(started))
    assert sum(each.token_usage.get("input_tokens", 0) for each in results) == strategy.billed
    assert strategy.most <= workers
    assert strategy.running == 0
    assert strategy.cleaned == strategy.prepared <= 1
    for name, calls in strategy.calls.items():
        assert strategy.limits[name] <= MAX_LIMITS + 1
        assert calls - strategy.limits[name] <= MAX_ATTEMPTS
    for closed, reopened in played.pauses.spans:
        assert not [start for start in strategy.starts if closed + 1e-5 < start < reopened - 1e-5]
    assert notes.kinds.count(ProcessingEvent.PROCESSING_COMPLETED) == notes.kinds.count(
        ProcessingEvent.PROCESSING_STARTED
    )
    assert len(notes.of(ProcessingEvent.RATE_LIMIT_HIT)) == len(played.pauses.spans)


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_any_batch_ends_with_one_result_an_item_in_order(world: dict[str, Any]) -> None:
    played = set_up(world)
    batch = in_virtual_time(process_all(played))
    assert [each.item_id for each in batch.results] == [item.item_id for item in played.work]
    assert batch.total_items == batch.succeeded + batch.failed == len(played.work)
    check(played, batch.results, world["workers"])
    (totals,) = played.notes.of(ProcessingEvent.PROCESSING_COMPLETED)
    assert (totals["total"], totals["input_tokens"]) == (batch.total_items, batch.total_input_tokens)


@settings(max_examples=40, deadline=None)
@given(worlds((*OUTCOMES, "auth")))
def test_any_stream_ends_with_one_result_for_every_item_it_pulled(world: dict[str, Any]) -> None:
    played, pulled = set_up(world), list[str]()

    def source():
        for item in played.work:
            pulled.append(item.item_id)
            yield item

    async def stream() -> list[WorkItemResult[str, Any]]:
        return [each async for each in played.engine.process_stream(source())]

    results = in_virtual_time(stream())
    assert Counter(each.item_id for each in results) == Counter(pulled)
    assert (len(pulled) == len(played.work)) or played.engine.stopped_by is not None
    check(played, results, world["workers"])


@settings(max_examples=40, deadline=None)
@given(worlds(), st.floats(0, 100), st.booleans())
def test_any_batch_can_be_ended_at_any_time(world: dict[str, Any], after: float, gracefully: bool) -> None:
    """By `stop()` or by cancellation, and there is still one finished event for every item that started."""
    played = set_up(world)

    async def interrupted() -> None:
        run = asyncio.create_task(process_all(played))
        await asyncio.sleep(after)
        called = len(played.strategy.starts)
        played.engine.stop() if gracefully else run.cancel()
        await asyncio.wait([run])
        assert run.cancelled() or run.result().total_items == len(played.work)
        assert len(played.strategy.starts) == called

    in_virtual_time(interrupted())
    results = played.engine.results_so_far().results
    assert len({each.item_id for each in results}) == len(results)
    assert played.strategy.cleaned == played.strategy.prepared
    finished = [data["item_id"] for data in played.notes.of(*FINISHED)]
    started = [data["item_id"] for data in played.notes.of(ProcessingEvent.ITEM_STARTED)]
    assert len(finished) == len(set(finished))
    assert set(started) <= set(finished)


@given(
    st.integers(1, 10**6),
    st.floats(0.001, 100),
    st.floats(0, 1000),
    st.floats(1, 1e6),
)
def test_backoff_stays_within_its_bounds(attempts: int, initial: float, more: float, base: float) -> None:
    from batch_llm._policy import backoff

    exact = RetryConfig(initial_wait=initial, max_wait=initial + more, exponential_base=base, jitter=False)
    full = backoff(exact, attempts, 0.0)
    assert initial <= full <= initial + more
    assert full <= backoff(exact, attempts + 1, 0.0)
    jittered = RetryConfig(initial_wait=initial, max_wait=initial + more, exponential_base=base)
    assert backoff(jittered, attempts, 0.0) == full / 2
    assert full / 2 <= backoff(jittered, attempts, 0.37) <= full
