"""Forecasts of simple scenarios with known results."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pytest

from batch_llm.config import ProcessorConfig
from batch_llm.errors import JobError
from batch_llm.simulation import Forecast, Scenario, simulate
from batch_llm.simulation.measured_costs import PROCESS_SECONDS

STEADY: dict[str, Any] = {"latency": 1.0, "latency_p95": 1.0, "call_seconds": 0.0, "cores": 4}


def simulate_items(items: int, **settings: Any) -> Forecast:
    return simulate(Scenario(items, **(STEADY | settings)))


def test_workers_and_latency_determine_the_rate() -> None:
    """50 workers with answers of one second make 50 calls per second after the rate has grown to that."""
    forecast = simulate_items(5_000, max_workers=50, processes=1, shard_size=5_000)
    assert forecast.call_seconds == pytest.approx(100 + 13, rel=0.05)
    assert forecast.workers_used == pytest.approx(1.0, rel=0.1)
    assert (forecast.calls, forecast.refused, forecast.failed) == (5_000, 0, 0)


def test_known_limit_is_fully_used() -> None:
    forecast = simulate_items(6_000, requests_per_minute=1200, processes=1, shard_size=6_000)
    assert forecast.call_seconds == pytest.approx(300, rel=0.06)
    assert forecast.limit_used == pytest.approx(1.0, rel=0.06)
    assert forecast.refused == 0


def test_token_limit_is_respected() -> None:
    """60,000 tokens per minute are 100 calls with 500 input and 100 output tokens."""
    forecast = simulate_items(1_000, tokens_per_minute=60_000, processes=1)
    assert forecast.call_seconds == pytest.approx(600, rel=0.08)
    assert forecast.input_tokens == 500_000


@pytest.mark.sample(1)
@pytest.mark.parametrize(("limit", "a_call"), [("input_tokens_per_minute", 500), ("output_tokens_per_minute", 100)])
def test_input_and_output_tokens_have_separate_limits(limit: str, a_call: int) -> None:
    forecast = simulate_items(12_000, **{limit: 2_000 * a_call}, processes=1)
    assert forecast.call_seconds == pytest.approx(360, rel=0.1)
    assert forecast.limit_used == pytest.approx(1.0, rel=0.1)


def test_unknown_limit_is_detected_from_rate_limits() -> None:
    forecast = simulate_items(4_000, requests_per_minute=1200, limits_known=False, processes=1, shard_size=4_000)
    assert 0 < forecast.refused < 200
    assert 200 < forecast.call_seconds < 240


@pytest.mark.whole
def test_one_core_limits_the_rate_and_more_cores_raise_it() -> None:
    """With 20 ms of CPU per call, a core makes 50 calls per second, also if two processes share it."""
    busy = {"max_workers": 200, "call_seconds": 0.02, "shard_size": 2_000}
    one = simulate_items(4_000, **busy, processes=1)
    two = simulate_items(4_000, **busy, processes=2)
    shared = simulate_items(4_000, **busy, processes=2, cores=1)
    assert one.call_seconds == pytest.approx(80, rel=0.25)
    assert one.cpu_used == pytest.approx(0.93, abs=0.12)
    assert two.call_seconds == pytest.approx(one.call_seconds / 2, rel=0.15)
    assert shared.call_seconds == pytest.approx(one.call_seconds, rel=0.15)


def test_failed_calls_are_retried_and_some_items_fail() -> None:
    """Nine calls that fail with probability one half leave two failed items in a thousand."""
    forecast = simulate_items(2_000, max_workers=50, failure_rate=0.5, shard_size=2_000)
    assert forecast.calls == pytest.approx(4_000, rel=0.08)
    assert 0 <= forecast.failed <= 15
    assert forecast.input_tokens == pytest.approx(500 * 2_000, rel=0.01)


def test_items_not_attempted_by_a_stopped_run_have_no_answer() -> None:
    """A provider that refuses everything ends each attempt of the shard after some calls."""
    forecast = simulate_items(200, max_workers=5, rate_limited=0.999999)
    assert forecast.calls < 100
    assert forecast.failed == 200


@pytest.mark.whole
def test_rest_of_the_run_is_extrapolated_from_the_window() -> None:
    """An extrapolated run takes as long as a fully simulated one, also if shards are larger than the window."""
    settings: dict[str, Any] = {"requests_per_minute": 6_000, "processes": 1, "shard_size": 10_000}
    short, long = simulate_items(10_000, **settings), simulate_items(100_000, **settings)
    assert long.call_seconds == pytest.approx(10 * (short.call_seconds - PROCESS_SECONDS), rel=0.06)


@pytest.mark.whole
def test_a_hundred_million_items_take_seconds_to_simulate() -> None:
    """The time is linear in the items and divided among machines; the bound is on the CPU of this process."""
    settings: dict[str, Any] = {"requests_per_minute": 120_000, "machines": 4, "cores": 8, "shard_size": 10_000}
    began = time.process_time()
    forecast = simulate_items(100_000_000, **settings)
    assert time.process_time() - began < 20
    assert forecast.call_seconds == pytest.approx(100_000_000 / 2_000, rel=0.08)
    assert forecast.shards == 10_000
    assert forecast.machines == 4


def test_forecast_is_reproducible_and_leaves_the_random_state_unchanged() -> None:
    settings = {"max_workers": 20, "failure_rate": 0.1, "latency_p95": 3.0, "rate_limited": 0.01}
    random.seed(1)
    expected = random.random()
    random.seed(1)
    first = simulate_items(500, **settings)
    assert random.random() == expected
    over = threading.Event()
    other = threading.Thread(target=lambda: [random.random() for _ in iter(over.is_set, True)])
    other.start()
    try:
        assert simulate_items(500, **settings) == first
    finally:
        over.set()
        other.join()


def test_answers_after_the_timeout_are_retried() -> None:
    """An answer after the timeout is a failed call, which is retried."""
    config = ProcessorConfig(timeout_per_item=2.0)
    forecast = simulate_items(300, max_workers=50, latency=1.0, latency_p95=3.0, config=config)
    assert forecast.calls > 320


def test_used_shares_never_exceed_one() -> None:
    """Although calls that time out and a burst at the start use less than the mean."""
    slow = simulate_items(
        200, max_workers=20, latency=5.0, latency_p95=10.0, config=ProcessorConfig(timeout_per_item=1.0)
    )
    burst = simulate_items(20, requests_per_minute=60, burst_seconds=30, limits_known=False)
    busy = simulate_items(20, max_workers=20, call_seconds=100.0, config=ProcessorConfig(timeout_per_item=1.0))
    assert (slow.workers_used, burst.limit_used, busy.cpu_used) == (1.0, 1.0, 1.0)


def test_a_model_without_a_price_is_unpriced() -> None:
    assert simulate_items(10, model="nobody:knows").cost_usd is None
    assert simulate_items(10, model="local").cost_usd == 0


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"items": 0}, "items is 0: it must be 1 or more"),
        ({"requests_per_minute": 0}, "requests_per_minute is 0: it must be more than 0"),
        ({"latency": 2.0}, "latency_p95 is 1: it must be the median, 2, or more"),
        ({"failure_rate": 1.0}, "failure_rate is 1: it must be less than 1"),
        ({"output_tokens": float("nan")}, "output_tokens is nan: it must be 0 or more"),
        ({"input_tokens": 1e12}, "input_tokens is too large: it must be 10,000,000 or less"),
        ({"output_tokens": float("inf")}, "output_tokens is too large: it must be 10,000,000 or less"),
        ({"items": 10**400}, "items is too large: it must be 1,000,000,000,000,000 or less"),
        ({"latency_p95": 1e300}, "latency_p95 is too large: it must be 1,000,000,000,000,000 or less"),
        ({"latency_p95": 1_500}, "latency_p95 is 1500: it must be 1,000 times the median or less"),
        ({"requests_per_minute": 1e12}, "concurrent calls in 1 processes, which can run 10,000 each: set max_workers"),
        ({"items": 10**6, "max_workers": 10**8}, "there are 100,000,000 concurrent calls in 4 processes"),
    ],
)
def test_invalid_scenario_is_reported_in_one_line(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(JobError, match=problem):
        simulate_items(**({"items": 1} | settings))
