"""The short version of `python -m tests.reliability.shares`, and its bounds."""

from __future__ import annotations

import pytest

from tests.benchmarks.fresh import CHECKOUT

from .shares import Outcome, play

COMMAND = "python -m tests.reliability.shares"


@pytest.mark.whole
@pytest.mark.prefect
def test_four_processes_share_a_limit(prefect_api: str) -> None:
    """All make calls, the others continue after one is killed, and none calls Prefect for each call."""
    assert f"uv run {COMMAND}\n" in (CHECKOUT / "tests" / "README.md").read_text()
    outcome = play(5, 2, told=True, api=prefect_api)
    assert list(outcome.taken) == ["process 1", "process 2", "process 3", "process 4"]
    assert sum(outcome.taken.values()) > 0
    assert outcome.refused < 0.5
    assert 0 < outcome.api_calls < 3


def test_bounds_are_the_total_use_and_the_shares() -> None:
    taken = {"a": 40, "b": 100}
    judged = Outcome(used=0.84, refused=0.03, taken=taken, back=31, api_calls=0.6).bounds()
    assert [(bound.figure, bound.holds) for bound in judged] == [
        ("84.0%", False),
        ("3.00%", False),
        ("40%", False),
        ("31 s", False),
        ("0.60/s", False),
    ]
    kept = Outcome(used=0.85, refused=0.0, taken=taken | {"a": 50}, back=30, api_calls=0.5).bounds()
    assert all(bound.holds for bound in kept)
