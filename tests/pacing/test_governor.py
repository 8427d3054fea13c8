"""The governor finds a provider's limit, respects a configured one, and gives up in a long outage, in virtual time."""

from __future__ import annotations

import asyncio
import logging
import threading
from itertools import pairwise

import pytest

from batch_llm import CallFailed, Governor, Limits, ProcessingEvent, RateLimitConfig, RetryConfig
from batch_llm.pacing.adaptive_rate import RateCurve
from batch_llm.pacing.pacer import CallPermit
from batch_llm.simulation import virtual_time
from tests.support.governed_runs import governed, refuse, started
from tests.support.limited_provider import Limited
from tests.support.scripted_strategies import Failure, Item, Notes, Scripted, failure, items, now, rate_limit

pytestmark = pytest.mark.looptime


@pytest.mark.sample(1)
@pytest.mark.looptime(False)
@pytest.mark.parametrize("says_when", [True, False])
@pytest.mark.parametrize("change", [1.0, 0.5, 2.0], ids=["steady", "halved", "doubled"])
def test_unknown_limit_is_found_and_used(change: float, says_when: bool) -> None:
    provider = Limited(lambda at: 50 if at < 50 else 50 * change, says_when=says_when)

    async def run() -> float:
        assert (await governed(items(5000, provider))).succeeded == 5000
        return provider.share_used()

    assert virtual_time.run(run()) > 0.85
    assert provider.share_refused < 0.03


@pytest.mark.sample(1)
@pytest.mark.looptime(False)
@pytest.mark.parametrize("change", [1.0, 0.5], ids=["steady", "halved"])
def test_limit_with_a_small_bucket_is_used_although_cooldowns_last_a_second(change: float) -> None:
    provider = Limited(lambda at: 50 if at < 30 else 50 * change, burst=0.2)

    async def run() -> float:
        assert (await governed(items(5000, provider))).succeeded == 5000
        return provider.share_used()

    assert virtual_time.run(run()) > 0.85
    assert provider.share_refused < 0.03


async def test_nine_tenths_of_an_unknown_limit_are_used_between_the_first_and_the_last_call() -> None:
    provider = Limited(lambda _: 50, burst=0.5)
    await governed(items(4000, provider), workers=200)
    seconds = provider.accepted[-1] - provider.accepted[0]
    assert 4000 / (50 * (seconds + provider.burst)) > 0.92
    assert provider.share_refused < 0.01


@pytest.mark.whole
async def test_longer_cooldowns_make_higher_rates_be_tried_less_often() -> None:
    """The bucket saves up a fifth of a second only, so what it gains during a cooldown is lost."""
    provider = Limited(lambda _: 50, burst=0.2, least_wait=5)
    await governed(items(2500, provider))
    assert provider.share_used() > 0.75


async def test_waiting_calls_start_in_order() -> None:
    """Also if a worker asks for a start at the very moment at which the first one in the queue may start."""
    strategy = Scripted([[1.0]])
    await governed(items(10, strategy), Governor(Limits(requests_per_minute=60)), workers=3)
    assert [prompt for _, prompt, _ in strategy.calls] == [f"prompt {number}" for number in range(10)]


async def test_slow_answers_do_not_turn_a_limit_into_an_outage() -> None:
    """Calls are refused again before the first answer after a cooldown, although others were accepted."""
    provider = Limited(lambda _: 20, seconds=20.0)
    await governed(items(1000, provider), workers=800)
    assert provider.share_used() > 0.5
    assert provider.share_refused < 0.01


async def test_run_starts_at_a_low_rate_that_grows_while_it_is_used() -> None:
    strategy = Scripted([[0.2]])
    await governed(items(400, strategy))
    in_second = [sum(second <= start < second + 1 for start in strategy.starts) for second in range(3)]
    assert in_second[0] < 40
    assert in_second[1] > 2 * in_second[0]


async def test_rate_does_not_grow_if_no_call_waits_for_it() -> None:
    governor = Governor()
    await governed(items(100, Scripted([[1.0]])), governor, workers=2)
    assert governor.scope.sample_usage(now()).curve.rate == 10


async def test_configured_limit_is_respected_from_the_start() -> None:
    provider = Limited(lambda _: 50, burst=0.2)
    batch = await governed(items(1000, provider), Governor(Limits(requests_per_minute=3000)))
    assert batch.succeeded == 1000
    assert provider.refused == []
    assert provider.share_used() > 0.95
    assert all(later - earlier > 0.9 for earlier, later in zip(provider.accepted, provider.accepted[50:], strict=False))


async def test_tokens_are_estimated_before_a_call_and_corrected_after_it() -> None:
    provider = Limited(lambda _: 1e6, answer_tokens=(10, 1000), tokens=10_000)
    work = [Item(f"{number}", provider, "word " * (number % 300)) for number in range(1500)]
    batch = await governed(work, Governor(Limits(tokens_per_minute=600_000)))
    assert batch.succeeded == 1500
    assert provider.share_refused < 0.005
    used = batch.total_input_tokens + batch.total_output_tokens
    assert used / (now() * 10_000) > 0.95


async def test_prompt_larger_than_the_tokens_of_a_minute_fails_at_once() -> None:
    strategy = Scripted()
    work = [Item("long", strategy, "x" * 100_000), Item("short", strategy, "x")]
    batch = await governed(work, Governor(Limits(input_tokens_per_minute=10_000)))
    assert [result.success for result in batch.results] == [False, True]
    assert batch.results[0].error == (
        "RequestTooLarge: the prompt has about 25,000 tokens, more than input_tokens_per_minute (10,000) allows: "
        "shorten the prompt, or raise the limit"
    )
    assert batch.results[0].error_info is not None
    assert batch.results[0].error_info.category == "invalid_request"
    assert batch.results[0].attempts == 0
    assert now() < 1


async def test_server_errors_do_not_reduce_the_rate() -> None:
    governor = Governor(Limits(requests_per_minute=600))
    await governed(items(50, Scripted([[failure()], ["ok"]])), governor)
    assert governor.scope.sample_usage(now()).curve.rate == 10


async def test_simultaneous_refusals_cut_the_rate_once() -> None:
    notes, governor = Notes(), Governor(Limits(requests_per_minute=6000))
    strategy = Scripted([[0.5, rate_limit(2)], ["ok"]])
    batch = await governed(items(40, strategy), governor, observers=[notes])
    assert batch.succeeded == 40
    assert len(notes.of(ProcessingEvent.RATE_LIMIT_HIT)) == 1
    assert not [start for start in strategy.starts if 0.5 < start < 2.5]


@pytest.mark.parametrize(("asked", "used"), [(1500, 1500), (100_000, 3600)])
async def test_wait_suggested_by_the_provider_is_used_up_to_an_hour(asked: float, used: float) -> None:
    """No call probes earlier; `max_cooldown_seconds` limits the growth only."""
    strategy = Scripted([[rate_limit(asked)], ["ok"]])
    batch = await governed(items(1, strategy), rate_limit=RateLimitConfig(max_cooldown_seconds=60))
    assert batch.succeeded == 1
    assert used <= strategy.starts[1] < used + 3


async def test_ten_minutes_of_refusals_fail_no_item_and_cause_few_probes() -> None:
    provider = Limited(lambda at: 0 if 20 <= at < 620 else 50, says_when=False)
    batch = await governed(items(1500, provider))
    assert batch.succeeded == 1500
    probes = [at for at in provider.refused if 30 <= at < 620]
    assert 3 <= len(probes) <= 12
    assert all(later - earlier > 3 for earlier, later in pairwise(probes))


async def test_run_gives_up_after_half_an_hour_of_refusals(
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = Limited(lambda _: 0, says_when=False)
    limits = RateLimitConfig(max_rate_limit_retries=1000)
    with caplog.at_level(logging.WARNING):
        batch = await governed(items(100, provider), rate_limit=limits)
    assert batch.succeeded == 0
    assert 1800 <= now() < 3600
    assert len(provider.refused) < 60
    assert "The provider rejected" in caplog.text
    assert {result.error_info.category for result in batch.results if result.error_info} >= {"rate_limit"}


def test_rate_limits_in_a_row_cut_the_rate_once() -> None:
    governor, rates = Governor(Limits(requests_per_minute=6000)), list[float | None]()
    for at in range(0, 50, 10):
        refuse(governor, started(governor, at), at + 1, wait=5)
        rates.append(governor.rate)
    assert rates == [pytest.approx(20)] * 5


def test_single_calls_probe_after_repeated_rate_limits() -> None:
    """The first call after a cooldown starts at once, the next one ten seconds later."""
    governor = Governor(Limits(requests_per_minute=6000))
    for at in (0, 4, 8):
        refuse(governor, started(governor, at), at + 1, wait=2)
    started(governor, 12)
    assert governor.reserve(21.9, CallPermit(10)) > 21.9
    started(governor, 22)


def test_bucket_gains_nothing_during_a_cooldown() -> None:
    governor = Governor(Limits(requests_per_minute=6000))
    refuse(governor, started(governor, 0), 1, wait=5)
    assert governor.reserve(6, CallPermit(10)) > 6


def test_rate_does_not_grow_while_idle() -> None:
    """Although a call waited just before the idle time."""
    governor = Governor()
    governor.finish(started(governor, 1), 1.1, "answered", {})
    assert governor.reserve(1.01, CallPermit(10)) > 1.01
    started(governor, 100)
    assert governor.rate == 10


def test_answer_to_a_call_from_before_the_cooldown_does_not_end_the_rate_limit() -> None:
    governor = Governor()
    early = started(governor, 0)
    refuse(governor, started(governor, 1), 2, wait=5)
    governor.finish(early, 3, "answered", {})
    assert governor.state.episodes == 1
    governor.finish(started(governor, 10), 11, "answered", {})
    assert governor.state.episodes == 0


async def test_waiting_call_uses_a_limit_that_is_raised_meanwhile() -> None:
    governor = Governor(Limits(requests_per_minute=1))
    asyncio.get_running_loop().call_at(5, governor.set_limits, Limits(requests_per_minute=6000))
    assert (await governed(items(3, Scripted()), governor)).succeeded == 3
    assert 5 <= now() < 7


def test_setting_the_same_limits_again_refills_nothing() -> None:
    governor = Governor(Limits(tokens_per_minute=600))
    started(governor, 0)
    governor.set_limits(Limits(tokens_per_minute=600))
    assert governor.reserve(1, CallPermit(10)) > 1


def test_cooldown_of_another_process_extends_the_own_and_never_shortens_it() -> None:
    governor = Governor()
    governor.scope.pause_for_others(20, 0, RateCurve(5))
    governor.scope.pause_for_others(10, 1, RateCurve(5))
    assert governor.reserve(15, CallPermit(10)) > 15
    governor.scope.pause_for_others(30, 19, RateCurve(5))
    assert governor.reserve(25, CallPermit(10)) > 25
    assert governor.reserve(31, CallPermit(10)) == 31


def test_highest_rate_that_other_processes_found_for_a_cooldown_is_used() -> None:
    governor = Governor()
    governor.scope.pause_for_others(20, 0, RateCurve(5))
    assert governor.scope.curve.rate == 5
    for other, taken in ((3, 5), (7, 7)):
        governor.scope.pause_for_others(20, 1, RateCurve(other))
        assert governor.scope.curve.rate == taken
    governor.scope.pause_for_others(40, 21, RateCurve(3))
    assert governor.scope.curve.rate == 3


def test_after_two_refusals_in_a_row_the_refused_process_continues_first() -> None:
    governor = Governor()
    governor.scope.pause_for_others(20, 0, RateCurve(100), episodes=1)
    assert governor.reserve(20.5, CallPermit(10)) == 20.5
    governor.scope.pause_for_others(30, 21, RateCurve(100), episodes=2)
    assert governor.reserve(31.5, CallPermit(10)) > 31.5
    assert governor.reserve(32.5, CallPermit(10)) == 32.5


def test_processes_continue_one_by_one_after_a_cooldown() -> None:
    """The limit may have room for one call only."""
    firsts = list[float]()
    for place in (0.0, 0.25, 0.5, 0.75):
        governor = Governor(Limits(requests_per_minute=60))
        governor.scope.set_share(0.25, place=place)
        governor.scope.pause_for_others(10, 0, RateCurve(1))
        firsts.append(
            next(tick / 100 for tick in range(1000, 2000) if governor.reserve(tick / 100, CallPermit(10)) == tick / 100)
        )
    assert firsts == [pytest.approx(each, abs=0.02) for each in (14, 13, 12, 11)]


def test_rate_does_not_grow_unless_all_of_it_is_shared_out() -> None:
    """No process makes the calls that are not shared out, so the rate would double forever without a refusal."""

    def grown(*, is_waiting: bool) -> float:
        governor = Governor()
        governor.finish(started(governor, 1), 1.1, "answered", {})
        governor.scope.set_share(0.1, is_waiting=is_waiting)
        for tick in range(11, 50):
            governor.reserve(tick / 10, CallPermit(10))
        return governor.scope.curve.rate

    assert grown(is_waiting=False) > grown(is_waiting=True) == 10


@pytest.mark.parametrize("needed", [True, False])
def test_rate_grows_if_other_processes_use_it_up(needed: bool) -> None:
    governor = Governor()
    governor.finish(started(governor, 1), 1.1, "answered", {})
    if needed:
        governor.scope.require_share(10)
    governor.finish(started(governor, 1.3), 1.4, "answered", {})
    assert (governor.rate > 10) is needed


def test_call_without_a_connection_uses_up_no_rate() -> None:
    governor = Governor(Limits(requests_per_minute=60))
    governor.finish(started(governor, 0), 0.1, "connect timed out", {})
    assert governor.reserve(0.1, CallPermit(10)) == 0.1


def never_sent() -> Failure:
    error = failure("timeout")
    error.info.never_sent = True
    return error


async def test_call_that_was_never_sent_uses_up_no_attempt_and_no_rate() -> None:
    strategy = Scripted([[never_sent()]] * 5 + [["ok"]])
    batch = await governed(items(1, strategy), retry=RetryConfig(max_attempts=1, initial_wait=1, jitter=False))
    assert batch.succeeded == 1
    assert [attempt for _, _, attempt in strategy.calls] == [1] * 6
    assert strategy.starts == [0, 1, 3, 7, 15, 31]


async def test_calls_without_a_connection_slow_the_run_once() -> None:
    governor = Governor(Limits(requests_per_minute=6000))
    strategy = Scripted([[0.5, never_sent()], ["ok"]])
    batch = await governed(items(40, strategy), governor)
    assert batch.succeeded == 40
    assert 50 < governor.rate < 100


async def test_calls_that_are_never_sent_fail_after_five_tries() -> None:
    strategy = Scripted([[never_sent()]])
    limits = RateLimitConfig(max_rate_limit_retries=3)
    batch = await governed(items(1, strategy), rate_limit=limits, retry=RetryConfig(max_attempts=2))
    assert batch.failed == 1
    assert len(strategy.calls) == 5


async def test_share_limit_and_cooldown_can_be_set_during_a_run() -> None:
    governor, strategy = Governor(Limits(requests_per_minute=600)), Scripted([[0.1]])
    loop = asyncio.get_running_loop()
    loop.call_at(10, governor.scope.set_share, 0.5)
    loop.call_at(20, governor.set_limits, Limits(requests_per_minute=6000))
    loop.call_at(30, governor.scope.pause_for_others, 35.0, 30.0, RateCurve(50))
    await governed(items(900, strategy), governor)
    in_ten = [sum(ten <= start < ten + 10 for start in strategy.starts) for ten in (0, 10, 20)]
    assert in_ten == [pytest.approx(100, abs=3), pytest.approx(50, abs=3), pytest.approx(500, abs=30)]
    assert not [start for start in strategy.starts if 30 < start < 35]


async def test_cooldown_is_reported_to_the_scope() -> None:
    governor, reported = Governor(), list[float]()
    governor.scope.listen(reported.append)
    await governed(items(5, Scripted([[1.0, rate_limit(7)], ["ok"]])), governor)
    assert reported == [pytest.approx(8, abs=0.01)]


@pytest.mark.looptime(False)
def test_engines_in_threads_share_one_governor() -> None:
    governor, strategies = Governor(Limits(requests_per_minute=6000)), [Scripted([[0.01]]) for _ in range(2)]

    def work(strategy: Scripted) -> None:
        asyncio.run(governed(items(60, strategy), governor))

    threads = [threading.Thread(target=work, args=(strategy,)) for strategy in strategies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    starts = sorted(start for strategy in strategies for start in strategy.starts)
    assert len(starts) == 120
    # A tenth of a second of the limit may be used at once.
    assert all(later - earlier > 0.35 for earlier, later in zip(starts, starts[50:], strict=False))


async def test_invalid_answers_end_a_rate_limit_as_valid_ones_do() -> None:
    """After two refusals in a row calls wait until one is accepted; a failed call that was billed counts."""
    billed = CallFailed(failure("validation", retryable=False), {"input_tokens": 5})
    strategy = Scripted([[rate_limit()], [rate_limit()], [0.1, billed]])
    await governed([Item("first", strategy, "x"), *items(5, Scripted([[0.1, billed]]))], workers=1)
    assert now() < 10


@pytest.mark.looptime(False)
def test_rate_is_a_limit_only_if_it_was_set_reported_or_met() -> None:
    assert not Governor().status().is_limited
    assert not Governor(Limits(tokens_per_minute=1000)).status().is_limited
    assert Governor(Limits(requests_per_minute=600)).status().is_limited
    reported = Governor()
    headers = {"limit-requests": "600", "remaining-requests": "599", "reset-requests": "100ms"}
    reported.on_headers({f"x-ratelimit-{name}": value for name, value in headers.items()}, 0.0)
    assert reported.status().is_limited
    met = Governor()
    permit = CallPermit(10)
    assert met.reserve(0.0, permit) == 0.0
    assert met.finish(permit, 0.1, "rate limited", {})
    assert met.status().is_limited
