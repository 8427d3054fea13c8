"""The short version of `python -m tests.reliability.kills`."""

from __future__ import annotations

import random

from tests.reliability.kills import Trial, attempt


def test_a_batch_that_is_killed_again_and_again_loses_nothing() -> None:
    """Every item gets its own answer, and no call is made twice but those in flight at a kill."""
    trial = Trial(items=160, kills=3, workers=8, seed=random.randrange(10**6))
    verdict = attempt(trial, print)
    missed = [bound for bound in verdict.bounds(trial) if not bound.holds]
    assert not missed, f"seed {trial.seed}: {missed}"
