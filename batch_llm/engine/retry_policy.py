"""Draws the jitter of waits from a generator of its own: that of `random` belongs to everybody in the process."""

from __future__ import annotations

import math
from contextvars import ContextVar
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from batch_llm.config import ProcessorConfig, RetryConfig
from batch_llm.errors import ErrorInfo

generator: ContextVar[Random] = ContextVar("generator", default=Random())  # noqa: B039  it is there to be shared
"""What this context draws from, and the tasks that it starts."""


def draw() -> float:
    """Return a number in [0, 1)."""
    return generator.get().random()


@dataclass(frozen=True, slots=True)
class Retry:
    """Try the item again after `wait` seconds; with `counts` False, as if the failed try had not been."""

    wait: float
    counts: bool = True


@dataclass(frozen=True, slots=True)
class CoolDown:
    """Pause the run; then try the item again, or, with `again` False, fail it at once."""

    again: bool


@dataclass(frozen=True, slots=True)
class Fail:
    """Give the item up; with `fatal`, the whole run."""

    fatal: bool


Decision: TypeAlias = Retry | CoolDown | Fail


def decide(
    info: ErrorInfo,
    attempt: int,
    limited: int,
    unsent: int,
    *,
    config: ProcessorConfig,
    draw: float,
    ends_run: bool = False,
) -> Decision:
    """Decide what follows a failed try.

    Args:
        info: What the classifier made of the error.
        attempt: The attempt that failed: 1, 2, 3, ...
        limited: Tries of this item that ended in a rate limit before this one.
        unsent: Tries before this one that never reached the provider.
        config: The run's settings.
        draw: A random number in [0, 1), for the jitter.
        ends_run: Whether no further call can succeed.
    """
    if ends_run:
        return Fail(fatal=True)
    if info.is_rate_limit:
        return CoolDown(again=info.is_retryable and limited < config.rate_limit.max_rate_limit_retries)
    if info.never_sent and info.is_retryable and unsent < config.rate_limit.max_rate_limit_retries:
        return Retry(max(backoff(config.retry, unsent + 1, draw), seconds(info.suggested_wait)), counts=False)
    if not info.is_retryable or attempt >= config.retry.max_attempts:
        return Fail(fatal=False)
    # A model that answered badly is not overloaded: asking again at once is as good as later.
    wait = 0.0 if info.category == "validation" else backoff(config.retry, attempt, draw)
    return Retry(max(wait, seconds(info.suggested_wait)))


def backoff(retry: RetryConfig, attempt: int, draw: float) -> float:
    """Return the seconds to wait after `attempt`; `RetryConfig` has the formula."""
    try:
        wait = min(retry.max_wait, retry.initial_wait * math.pow(retry.exponential_base, attempt - 1))
    except OverflowError:
        wait = retry.max_wait
    return wait * (0.5 + draw / 2) if retry.jitter else wait


def seconds(value: float | None, default: float = 0.0) -> float:
    """Return `value` where it is a length of time, else `default`: classifiers and strategies are users' code."""
    try:
        return float(value) if value is not None and math.isfinite(value) and value >= 0 else default
    except OverflowError:  # a whole number of hundreds of digits
        return default
