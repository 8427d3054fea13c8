"""Prefect's retries of a shard, from a `RetryConfig` and the engine's error classifier.

    level               retries                               configured by        decided by
    the engine          one item's call, within seconds       config.retry         the error classifier
    the shard's task    what a shard is missing, in minutes   shard_retry          the same classifier, here

An item has at most `config.retry.max_attempts * shard_retry.max_attempts` attempts, rate limits aside.
"""

from __future__ import annotations

from typing import Any, TypedDict

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun

from batch_llm.classifiers.default import DefaultErrorClassifier
from batch_llm.config import RetryConfig
from batch_llm.engine.retry_policy import backoff
from batch_llm.errors import BatchLLMError, ErrorClassifier
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

            task = run_shard.with_options(**retry_options(RetryConfig(max_attempts=3)))
    """
    classify = (classifier or DefaultErrorClassifier()).classify

    # A plain function: Prefect 3.8 never retries for a bound method, a partial or a callable object.
    def can_pass(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
        match state.data:
            case ShardUnfinished(outcome=ShardOutcome(unfinished=info)):
                return info is not None and info.is_retryable
            case BatchLLMError():
                return False
            case Exception() as error:
                return classify(error).is_retryable
            case _:
                return False

    retries = retry.max_attempts - 1
    return RetryOptions(
        retries=retries,
        retry_delay_seconds=[backoff(retry, attempt, draw=1.0) for attempt in range(1, min(retries, MOST_DELAYS) + 1)],
        retry_jitter_factor=0.5 if retry.jitter else 0.0,
        retry_condition_fn=can_pass,
    )
