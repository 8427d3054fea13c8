"""A rate limit causes one cooldown for the whole run, whichever call is cancelled."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from batch_llm import (
    CallFailed,
    ErrorInfo,
    ExponentialBackoffStrategy,
    FixedDelayStrategy,
    ProcessingEvent,
    RateLimitConfig,
    RateLimitStrategy,
    RetryConfig,
)
from tests.support.scripted_strategies import (
    Item,
    Notes,
    Scripted,
    config,
    failure,
    items,
    now,
    process,
    processor,
    rate_limit,
)

pytestmark = pytest.mark.looptime


def limits(cooldown: float = 300.0, *, slow: int = 0, **settings: Any) -> RateLimitConfig:
    return RateLimitConfig(cooldown_seconds=cooldown, slow_start_items=slow, **settings)


async def test_no_call_starts_in_a_cooldown_and_calls_in_flight_go_on() -> None:
    hit, busy = Scripted([[1.0, rate_limit()], ["ok"]]), Scripted([[10.0]])
    work = [Item("hit", hit), *items(4, busy)]
    batch = await process(work, config(3, rate_limit=limits()))
    assert batch.succeeded == 5
    assert hit.starts == [0, 301]
    assert busy.starts == [0, 0, 301, 301]
    assert busy.ended[:2] == [10, 10]


async def test_many_calls_that_hit_the_limit_together_make_one_cooldown() -> None:
    notes, strategy = Notes(), Scripted([[1.0, rate_limit()], ["ok"]])
    batch = await process(items(20, strategy), config(20, rate_limit=limits()), observers=[notes])
    assert batch.succeeded == 20
    assert strategy.starts == [0] * 20 + [301] * 20
    assert notes.of(ProcessingEvent.RATE_LIMIT_HIT) == [{"item_id": "item-0", "pause": 300}]


async def test_rate_limit_of_a_call_from_before_the_last_cooldown_is_ignored() -> None:
    early, late = Scripted([[1.0, rate_limit(5)], ["ok"]]), Scripted([[20.0, rate_limit(5)], ["ok"]])
    notes = Notes()
    batch = await process([Item("early", early), Item("late", late)], config(rate_limit=limits()), observers=[notes])
    assert batch.succeeded == 2
    assert early.starts == [0, 6]
    assert late.starts == [0, 20]  # it goes on at once, for the gate is open
    assert len(notes.of(ProcessingEvent.RATE_LIMIT_HIT)) == 1


async def test_rate_limit_does_not_use_up_an_attempt() -> None:
    script = [[rate_limit(1)]] * 10 + [[failure()], ["ok"]]
    strategy = Scripted(script)
    settings = config(retry=RetryConfig(max_attempts=2, jitter=False), rate_limit=limits(backoff_multiplier=1))
    (result,) = (await process([Item("a", strategy)], settings)).results
    assert result.success
    assert result.attempts == 12
    assert [attempt for _, _, attempt in strategy.calls] == [1] * 11 + [2]


async def test_rate_limit_retries_are_limited_separately() -> None:
    strategy = Scripted([[rate_limit(10)]])
    settings = config(rate_limit=limits(max_rate_limit_retries=3, backoff_multiplier=1))
    (result,) = (await process([Item("a", strategy)], settings)).results
    assert strategy.starts == [0, 10, 20, 30]
    assert result.error_info is not None
    assert result.error_info.category == "rate_limit"
    assert now() == 30  # without tries left it fails at once


async def test_item_without_retries_left_still_starts_a_cooldown() -> None:
    hit, other = Scripted([[1.0, rate_limit()]]), Scripted([[2.0]])
    work = [Item("hit", hit), *items(2, other)]
    await process(work, config(2, rate_limit=limits(50, max_rate_limit_retries=0)))
    assert hit.ended == [1]
    assert other.starts == [0, 51]


async def test_cooldown_lasts_as_long_as_the_provider_suggests() -> None:
    strategy = Scripted([[rate_limit(5)], ["ok"]])
    await process([Item("a", strategy)], config(rate_limit=limits()))
    assert strategy.starts == [0, 5]


async def test_cooldowns_without_a_success_in_between_grow() -> None:
    strategy = Scripted([[rate_limit()], [rate_limit()], [rate_limit()], ["ok"]])
    await process([Item("a", strategy)], config(rate_limit=limits(100, backoff_multiplier=2, max_cooldown_seconds=350)))
    assert strategy.starts == [0, 100, 300, 650]


async def test_configured_cooldown_may_exceed_the_cap() -> None:
    strategy = Scripted([[rate_limit()], ["ok"]])
    await process([Item("a", strategy)], config(rate_limit=limits(900)))
    assert strategy.starts == [0, 900]


async def test_billed_failure_resets_the_growth_of_cooldowns() -> None:
    """The provider accepted the call, although its answer was not usable."""
    billed = CallFailed(failure("validation"), {"input_tokens": 5})
    strategy = Scripted([[rate_limit()], [billed], [rate_limit()], ["ok"]])
    await process([Item("a", strategy)], config(rate_limit=limits(100, backoff_multiplier=2)))
    assert strategy.starts == [0, 100, 100, 200]


async def test_success_resets_the_growth_of_cooldowns() -> None:
    strategy = Scripted([[rate_limit()], ["ok"]])
    work = [Item("a", strategy, "1"), Item("b", strategy, "2")]
    await process(work, config(1, rate_limit=limits(100, backoff_multiplier=2)))
    assert strategy.starts == [0, 100, 100, 200]


async def test_answer_to_a_call_from_before_the_cooldown_does_not_reset_the_growth() -> None:
    strategy, slow = Scripted([[rate_limit()], [rate_limit()], ["ok"]]), Scripted([[50.0]])
    await process([Item("slow", slow), Item("a", strategy)], config(rate_limit=limits(100, backoff_multiplier=2)))
    assert slow.ended == [50]
    assert strategy.starts == [0, 100, 300]


async def test_slow_start_spaces_the_calls_after_a_cooldown() -> None:
    strategy = Scripted([[1.0, rate_limit(9)], ["ok"]])
    rate = RateLimitConfig(slow_start_items=3, slow_start_initial_delay=2.0, slow_start_final_delay=1.0)
    await process(items(6, strategy), config(6, rate_limit=rate))
    assert strategy.starts[6:] == [10, 12, 13.5, 14.5, 14.5, 14.5]


async def test_default_cooldown_and_slow_start() -> None:
    """A cooldown of 300 s, then 50 calls whose distance shrinks evenly from 2 s to 0.1 s, then full speed."""
    strategy = Scripted([[1.0, rate_limit()], ["ok"]])
    await process(items(60, strategy), config(60, rate_limit=RateLimitConfig()))
    after = strategy.starts[60:]
    distances = [later - earlier for earlier, later in pairwise(after)]
    assert after[0] == 301
    assert distances[:50] == pytest.approx([2.0 - 1.9 * index / 49 for index in range(50)], abs=1e-5)
    assert distances[50:] == [0] * 9


async def test_rate_limit_in_slow_start_restarts_it() -> None:
    strategy = Scripted([[rate_limit(10)], [rate_limit(10)], ["ok"]])
    rate = RateLimitConfig(
        slow_start_items=5, slow_start_initial_delay=100, slow_start_final_delay=100, backoff_multiplier=1
    )
    await process([Item("a", strategy)], config(rate_limit=rate))
    assert strategy.starts == [0, 10, 20]


async def test_a_fresh_run_starts_at_full_speed() -> None:
    strategy = Scripted()
    await process(items(60, strategy), config(60))
    assert strategy.starts == [0] * 60


async def test_rate_limit_in_slow_start_drops_the_scheduled_starts() -> None:
    strategy = Scripted([[0.5, rate_limit(10)], [0.5, rate_limit(10)], ["ok"]])
    rate = RateLimitConfig(
        slow_start_items=10, slow_start_initial_delay=2, slow_start_final_delay=2, backoff_multiplier=1
    )
    await process(items(3, strategy), config(3, rate_limit=rate))
    # Reopened at 10.5: the first call meets the limit again at 11, and the other two turns (12.5, 14.5) are void.
    assert strategy.starts[:4] == [0, 0, 0, 10.5]
    # Who waited longest goes first, and meets its own second limit at 21.5.
    assert strategy.starts[4:6] == [21, 31.5]


async def test_rate_limited_call_waits_for_the_cooldown_without_backoff() -> None:
    notes, strategy = Notes(), Scripted([[rate_limit(5)], ["ok"]])
    retry = RetryConfig(initial_wait=60, jitter=False)
    await process([Item("a", strategy)], config(retry=retry, rate_limit=limits()), observers=[notes])
    assert strategy.starts == [0, 5]
    assert not notes.of(ProcessingEvent.RETRY_SCHEDULED)


async def test_custom_strategy_is_called_once_per_rate_limit() -> None:
    asked: list[tuple[str, int]] = []

    class Mine(RateLimitStrategy):
        async def handle_rate_limit(self, error_info: ErrorInfo, attempt: int) -> float:
            asked.append((error_info.category, attempt))
            await asyncio.sleep(2)
            return 7

    strategy = Scripted([[1.0, rate_limit()], [1.0, rate_limit()], ["ok"]])
    await process(items(3, strategy), config(rate_limit=limits()), rate_limit_strategy=Mine())
    assert asked == [("rate_limit", 1), ("rate_limit", 2)]
    assert strategy.starts == [0] * 3 + [10] * 3 + [20] * 3


@pytest.mark.parametrize("broken", [float("nan"), -1.0, None, RuntimeError("no"), asyncio.CancelledError(), 1000.0])
async def test_configured_cooldown_is_used_if_a_custom_strategy_fails(broken: Any) -> None:
    class Mine(RateLimitStrategy):
        async def handle_rate_limit(self, error_info: ErrorInfo, attempt: int) -> float:
            if isinstance(broken, BaseException):
                raise broken
            if broken == 1000.0:
                await asyncio.sleep(1000)  # hangs: it is given as long as a call
            return broken

    strategy = Scripted([[rate_limit()], ["ok"]])
    await process([Item("a", strategy)], config(timeout=1, rate_limit=limits(40)), rate_limit_strategy=Mine())
    assert strategy.starts == [0, 41 if broken == 1000.0 else 40]


async def test_cooldown_of_zero_seconds_continues_at_once() -> None:
    strategy = Scripted([[rate_limit(0)], ["ok"]])
    await process([Item("a", strategy)], config(rate_limit=limits()))
    assert strategy.starts == [0, 0]


async def test_non_retryable_rate_limit_fails_the_item_and_starts_a_cooldown() -> None:
    hard = failure("rate_limit", retryable=False, wait=30)
    hit, other = Scripted([[hard]]), Scripted([[1.0]])
    batch = await process([Item("hit", hit), *items(2, other)], config(2, rate_limit=limits()))
    assert [each.success for each in batch.results] == [False, True, True]
    assert len(hit.calls) == 1
    assert other.starts == [0, 30] or other.starts == [30, 30]


async def test_prepare_waits_for_the_cooldown() -> None:
    hit, other = Scripted([[rate_limit(30)], ["ok"]]), Scripted()
    await process([Item("hit", hit), Item("other", other)], config(1, rate_limit=limits()))
    assert other.prepared == [30]


async def test_cooldown_that_starts_during_prepare_delays_the_call() -> None:
    class Slow(Scripted):
        async def prepare(self) -> None:
            await asyncio.sleep(10)

    hit, slow = Scripted([[5.0, rate_limit(100)], ["ok"]]), Slow()
    await process([Item("hit", hit), Item("slow", slow)], config(2, rate_limit=limits()))
    assert slow.starts == [105]


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), -5.0])
async def test_configured_cooldown_is_used_if_the_suggestion_is_not_a_valid_time(nonsense: float) -> None:
    strategy = Scripted([[rate_limit(nonsense)], ["ok"]])
    await process([Item("a", strategy)], config(rate_limit=limits()))
    assert strategy.starts == [0, 300]


async def test_repeated_suggestions_of_zero_seconds_still_lead_to_growing_cooldowns() -> None:
    """The item's tries last for more than a minute, so many such refusals in a row do not fail it."""
    strategy = Scripted([[rate_limit(0)]] * 12 + [["ok"]])
    (result,) = (await process([Item("a", strategy)], config(rate_limit=limits()))).results
    assert result.success
    assert strategy.starts[:4] == [0, 0, 1.5, 3.75]
    assert strategy.starts[-1] > 60


async def test_durations_of_the_built_in_strategies() -> None:
    info, asked = ErrorInfo(True, True, "rate_limit"), ErrorInfo(True, True, "rate_limit", 10)
    growing = ExponentialBackoffStrategy(cooldown_seconds=100, backoff_multiplier=2, max_cooldown_seconds=350)
    assert [await growing.handle_rate_limit(info, episode) for episode in (1, 2, 3, 5000)] == [100, 200, 350, 350]
    assert [await growing.handle_rate_limit(asked, episode) for episode in (1, 2)] == [10, 20]
    assert await ExponentialBackoffStrategy().handle_rate_limit(info, 1) == 300
    assert await ExponentialBackoffStrategy().handle_rate_limit(ErrorInfo(True, True, "rate_limit", 900), 1) == 900
    long = ExponentialBackoffStrategy(cooldown_seconds=900)  # the cap is for the growth
    assert [await long.handle_rate_limit(info, episode) for episode in (1, 2, 9)] == [900, 900, 900]
    assert [await long.handle_rate_limit(asked, episode) for episode in (1, 2)] == [10, 15]
    at_once = ErrorInfo(True, True, "rate_limit", 0)
    assert [await growing.handle_rate_limit(at_once, episode) for episode in (1, 2, 3)] == [0, 2, 4]
    assert await ExponentialBackoffStrategy(cooldown_seconds=0).handle_rate_limit(at_once, 2) == 0
    assert await FixedDelayStrategy(3).handle_rate_limit(asked, 9) == 3
    with pytest.raises(ValueError, match="backoff_multiplier"):
        ExponentialBackoffStrategy(backoff_multiplier=0.5)


async def test_run_after_one_that_was_cancelled_in_a_cooldown_starts_at_once() -> None:
    """The second run of a processor starts at once if its first was cancelled in a cooldown."""
    engine = processor(config(rate_limit=limits()))
    await engine.add_work(Item("a", Scripted([[rate_limit()]])))
    run = asyncio.create_task(engine.process_all())
    await asyncio.sleep(10)
    run.cancel()
    await asyncio.wait([run])
    fresh = Scripted()
    await engine.add_work(Item("a", fresh))
    assert (await engine.process_all()).succeeded == 1
    assert fresh.starts == [10]
