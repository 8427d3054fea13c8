"""`RetryConfig` and the error classifier as Prefect's options for a task."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import pytest
from prefect.states import Completed, Failed

from batch_llm import ErrorInfo, RetryConfig
from batch_llm.errors import JobError
from batch_llm.jobs import ShardOutcome
from batch_llm.prefect import ShardUnfinished, retry_options


def outcome(info: ErrorInfo | None) -> ShardOutcome:
    return ShardOutcome(
        index=0,
        items=10,
        succeeded=7,
        failed=3,
        not_attempted=0,
        input_tokens=1,
        output_tokens=1,
        cost_usd=None,
        seconds=1.0,
        unfinished=info,
        unfinished_text="3 items left: server_error",
    )


def can_pass(state: Any, retry: RetryConfig | None = None) -> bool:
    condition: Any = retry_options(retry or RetryConfig())["retry_condition_fn"]
    return condition(None, None, state)


def test_delays_are_the_waits_of_the_config_without_jitter() -> None:
    options = retry_options(RetryConfig(max_attempts=5, initial_wait=30, max_wait=100, exponential_base=2))
    assert options["retries"] == 4
    assert options["retry_delay_seconds"] == [30, 60, 100, 100]
    assert options["retry_jitter_factor"] > 0


def test_last_delay_repeats_if_there_are_more_retries_than_delays() -> None:
    options = retry_options(RetryConfig(max_attempts=80, initial_wait=1, max_wait=5, jitter=False))
    assert options["retries"] == 79
    assert len(options["retry_delay_seconds"]) == 50
    assert options["retry_jitter_factor"] == 0


def test_one_attempt_means_no_retry() -> None:
    assert retry_options(RetryConfig(max_attempts=1))["retries"] == 0


def test_retry_condition_is_a_plain_function() -> None:
    assert inspect.isfunction(retry_options(RetryConfig())["retry_condition_fn"])


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (ErrorInfo(is_retryable=True, category="server_error"), True),
        (ErrorInfo(is_retryable=False, category="auth"), False),
        (None, False),
    ],
)
def test_shard_is_retried_if_the_reason_is_retryable(info: ErrorInfo | None, expected: bool) -> None:
    assert can_pass(Failed(data=ShardUnfinished(outcome(info)))) is expected


def test_other_errors_are_classified_by_the_same_classifier() -> None:
    assert can_pass(Failed(data=ConnectionResetError("reset by peer")))
    assert not can_pass(Failed(data=TypeError("a bug")))
    assert not can_pass(Failed(data=JobError("docs.csv does not exist: check source")))
    assert not can_pass(Completed())


def test_unfinished_shard_error_can_be_pickled() -> None:
    error = ShardUnfinished(outcome(ErrorInfo(is_retryable=True, category="server_error")))
    copy = pickle.loads(pickle.dumps(error))
    assert copy.outcome == error.outcome
    assert str(copy) == "3 items left: server_error"
