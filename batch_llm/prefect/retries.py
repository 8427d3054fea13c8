"""Retries of a shard, from a `RetryConfig` and the engine's error classifier.

    level               retries                               configured by        decided by
    the engine          one item's call, within seconds       config.retry         the error classifier
    the scheduler       what a shard is missing, in minutes   shard_retry          the same classifier, here

An item has at most `config.retry.max_attempts * shard_retry.max_attempts` attempts, rate limits aside.

Prefect's engine sleeps in the task's own thread or process until a retry is due (`wait_until_ready` in its
`task_engine`), so a shard that waits would occupy a process. The scheduler instead starts a new task run of the shard
when the wait is over, and runs other shards meanwhile. `retry_options` configures the same waits for other tasks.
"""

from __future__ import annotations

from typing import Any, TypedDict

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun

from batch_llm.classifiers.default import DefaultErrorClassifier
from batch_llm.config import RetryConfig
from batch_llm.engine import retry_policy
from batch_llm.engine.retry_policy import backoff
from batch_llm.errors import BatchLLMError, ErrorClassifier, JobError
from batch_llm.jobs import ShardOutcome

MOST_DELAYS = 50
"""Prefect accepts no longer list of delays, and repeats the last one."""


class ShardUnfinished(BatchLLMError):
    """Error of a shard that has unfinished items; it holds plain data, so that it can be pickled.

    Attributes:
        outcome: Outcome of the shard so far; its `unfinished` shows whether a retry can help.
    """

    def __init__(self, outcome: ShardOutcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome

    def __str__(self) -> str:
        return self.outcome.unfinished_text


def can_pass(result: Any, classifier: ErrorClassifier | None = None) -> bool:
    """Return whether another attempt can help: a shard's outcome has retryable items, or an error is retryable."""
    match result:
        case ShardOutcome(unfinished=info) | ShardUnfinished(outcome=ShardOutcome(unfinished=info)):
            return info is not None and info.is_retryable
        case BatchLLMError():
            return False
        case Exception() as error:
            return (classifier or DefaultErrorClassifier()).classify(error).is_retryable
        case _:
            return False


def reason_to_stop(result: Any) -> str:
    """Return why the last result of a shard stops the run; empty if it does not. An unexpected error is raised."""
    match result:
        case ShardUnfinished() | JobError():
            return str(result)
        case BaseException():
            raise result
        case _:
            return ""


def retry_wait(retry: RetryConfig, attempt: int) -> float | None:
    """Return the seconds to wait after an attempt of a shard, the first one being 1; None after the last attempt."""
    return None if attempt >= retry.max_attempts else backoff(retry, attempt, retry_policy.draw())


class RetryOptions(TypedDict):
    """Arguments of `Task.with_options` that configure retries."""

    retries: int
    retry_delay_seconds: list[float]
    retry_jitter_factor: float
    retry_condition_fn: Any


def retry_options(retry: RetryConfig, classifier: ErrorClassifier | None = None) -> RetryOptions:
    """Return the options with which Prefect retries a task as `retry` configures, for retryable errors.

    The delays are the waits of `retry` in seconds, without jitter, which Prefect adds itself.

    Example:
        Options for a task of your own::

            task = my_task.with_options(**retry_options(RetryConfig(max_attempts=3)))
    """

    # A plain function: Prefect 3.8 never retries for a bound method, a partial or a callable object.
    def condition(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
        return can_pass(state.data, classifier)

    retries = retry.max_attempts - 1
    return RetryOptions(
        retries=retries,
        retry_delay_seconds=[backoff(retry, attempt, draw=1.0) for attempt in range(1, min(retries, MOST_DELAYS) + 1)],
        retry_jitter_factor=0.5 if retry.jitter else 0.0,
        retry_condition_fn=condition,
    )
