"""Limits of a few calls per minute, and long waits, with few calls to learn from; in virtual time."""

from __future__ import annotations

import pytest

from batch_llm import Governor, Limits, RateLimitConfig
from batch_llm.pacing.adaptive_rate import RateCurve
from batch_llm.pacing.pacer import CallPermit
from batch_llm.simulation import virtual_time
from tests.support.governed_runs import governed, refuse, started
from tests.support.limited_provider import Limited
from tests.support.scripted_strategies import Scripted, items, rate_limit


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("a_minute", "says_when", "share_refused"),
    [(6, True, 0.1), (6, False, 0.22), (60, True, 0.06), (60, False, 0.1), (300, True, 0.03), (300, False, 0.03)],
)
def test_low_limit_is_found_and_fails_no_item(a_minute: float, says_when: bool, share_refused: float) -> None:
    """The rate grows with the number of accepted calls, not with the time between them."""
    provider = Limited(lambda _: a_minute / 60, says_when=says_when)

    async def run() -> float:
        assert (await governed(items(400, provider), workers=20)).succeeded == 400
        return provider.share_used()

    assert virtual_time.run(run()) > 0.85
    assert provider.share_refused < share_refused


@pytest.mark.sample(1)
@pytest.mark.parametrize("says_when", [True, False])
def test_low_limit_that_is_raised_is_found(says_when: bool) -> None:
    provider = Limited(lambda at: 1 if at < 200 else 4, says_when=says_when)

    async def run() -> float:
        assert (await governed(items(1500, provider), workers=20)).succeeded == 1500
        return provider.share_used()

    assert virtual_time.run(run()) > 0.85
    assert provider.share_refused < 0.07


@pytest.mark.parametrize(("rate", "grown"), [(0.1, 0.25), (2.0, 5.0), (4.0, 10.0), (40.0, 10.0)])
def test_rate_grows_for_at_most_a_quarter_of_a_second_per_call(rate: float, grown: float) -> None:
    """Ten seconds of use at six calls per minute are a single call, in all processes that follow the curve."""
    assert RateCurve(rate, plateau=rate).later(10).seconds_since_cut == pytest.approx(grown)


def test_refused_call_is_not_counted_as_accepted() -> None:
    governor = Governor(Limits(requests_per_minute=600))
    turns = list[CallPermit]()
    for number in range(11):
        turns.append(started(governor, number * 0.11))
        assert (
            governor.reserve(turns[-1].started, CallPermit(10)) > turns[-1].started
        )  # the rate is what holds calls up
    refuse(governor, turns[-1], 1.15, wait=1)
    saved_up = 0.2
    assert governor.scope.sample_usage(2).curve.plateau == pytest.approx(10 / (1.15 + saved_up), rel=0.02)


@pytest.mark.looptime
async def test_run_does_not_give_up_after_two_long_suggested_waits() -> None:
    """Although nothing was answered for more than half an hour: the provider suggested these waits."""
    strategy = Scripted([[rate_limit(2000)], [rate_limit(2000)], ["ok"]])
    batch = await governed(items(1, strategy), rate_limit=RateLimitConfig(max_cooldown_seconds=3600))
    assert batch.succeeded == 1
