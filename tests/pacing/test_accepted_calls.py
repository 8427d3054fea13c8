"""An estimate of a limit from the calls that were accepted before one was refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.pacing.adaptive_rate import AcceptedCalls

TICK = 0.1


@given(
    limit=st.floats(50, 500),
    saved=st.floats(0.2, 2.0),
    before=st.lists(st.floats(0.5, 1.0), max_size=30),
    beyond=st.floats(1.05, 3.0),
)
def test_first_refusal_gives_an_estimate_of_the_bucket_limit(
    limit: float, saved: float, before: list[float], beyond: float
) -> None:
    """At any pace before: never below the limit, and little above it if the bucket can save up little."""
    accepted, level, paces = AcceptedCalls(), saved * limit, [*before, *[beyond] * 500]
    for pace in paces:
        level = min(saved * limit, level)
        gained = (1 - pace) * limit * TICK
        part = min(1.0, level / -gained) if gained < 0 else 1.0  # of the tick, until the bucket is empty
        accepted.add(pace * limit * TICK * part, TICK * part)
        level += gained
        if part < 1:
            break
    assert accepted.limit() > 0.95 * limit
    if saved < 0.25:
        assert accepted.limit() < 1.25 * limit


def test_removed_calls_are_not_counted() -> None:
    accepted = AcceptedCalls()
    accepted.add(10, 0.8)
    assert accepted.limit() == pytest.approx(10)
    assert accepted.mean() == pytest.approx(12.5)
    accepted.add(-5, 0.0)
    assert (accepted.limit(), accepted.count) == (pytest.approx(5), 5)
    accepted.clear()
    assert (accepted.limit(), accepted.mean(), accepted.count) == (0, 0, 0)
