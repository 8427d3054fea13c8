"""Retry policy: what follows a failed call, and the length of the backoff.

The jitter comes from a separate random generator, because that of the `random` module is shared by the whole process.
"""

from __future__ import annotations

import math
from contextvars import ContextVar
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from batch_llm.config import ProcessorConfig, RetryConfig
from batch_llm.errors import ErrorInfo

generator: ContextVar[Random] = ContextVar("generator", default=Random())  # noqa: B039  sharing is intended
"""Random generator of the current context and of the tasks that it starts."""


def draw() -> float:
    """Return a random number in [0, 1)."""
    return generator.get().random()


@dataclass(frozen=True, slots=True)
class Retry:
    """Decision to try the item again after `wait` seconds; with `counts` False, the failed call is not an attempt."""

    wait: float
    counts: bool = True


@dataclass(frozen=True, slots=True)
class CoolDown:
    """Decision to start a cooldown, and then to try the item again or, with `again` False, to fail it immediately."""

    again: bool


@dataclass(frozen=True, slots=True)
class Fail:
    """Decision to fail the item; with `fatal`, to stop the whole run."""

    fatal: bool


Decision: TypeAlias = Retry | CoolDown | Fail


def decide(
    info: ErrorInfo,
    attempt: int,
    limited: int,
    calls_never_sent: int,
    *,
    config: ProcessorConfig,
    draw: float,
    ends_run: bool = False,
) -> Decision:
    """Return the decision that follows a failed call.

    Args:
        info: Classification of the error.
        attempt: Number of the attempt that failed: 1, 2, 3, ...
        limited: Number of earlier calls of this item that ended in a rate limit.
        calls_never_sent: Number of earlier calls of this item that were never sent.
        config: Settings of the run.
        draw: A random number in [0, 1), for the jitter.
        ends_run: Whether no further call can succeed.
    """
    if ends_run:
        return Fail(fatal=True)
    if info.is_rate_limit:
        return CoolDown(again=info.is_retryable and limited < config.rate_limit.max_rate_limit_retries)
    if info.never_sent and info.is_retryable and calls_never_sent < config.rate_limit.max_rate_limit_retries:
        return Retry(max(backoff(config.retry, calls_never_sent + 1, draw), seconds(info.suggested_wait)), counts=False)
    if not info.is_retryable or attempt >= config.retry.max_attempts:
        return Fail(fatal=False)
    # A model that gave an invalid answer is not overloaded, so there is no reason to wait.
    wait = 0.0 if info.category == "validation" else backoff(config.retry, attempt, draw)
    return Retry(max(wait, seconds(info.suggested_wait)))


def backoff(retry: RetryConfig, attempt: int, draw: float) -> float:
    """Return the seconds to wait after `attempt`, by the formula in `RetryConfig`."""
    try:
        wait = min(retry.max_wait, retry.initial_wait * math.pow(retry.exponential_base, attempt - 1))
    except OverflowError:
        wait = retry.max_wait
    return wait * (0.5 + draw / 2) if retry.jitter else wait


def seconds(value: float | None, default: float = 0.0) -> float:
    """Return `value` if it is a valid duration, else `default`; users' classifiers may return any value."""
    try:
        return float(value) if value is not None and math.isfinite(value) and value >= 0 else default
    except OverflowError:  # an integer with hundreds of digits
        return default
