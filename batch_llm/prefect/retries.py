"""Prefect's retries of a shard, out of a `RetryConfig` and the engine's error classifier.

    level               retries what                          ruled by             asks
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
"""Prefect takes no longer list of delays, and repeats the last one."""


class ShardUnfinished(BatchLLMError):
    """A shard ended with items left; carries plain data, so that it survives the way to another process.

    Attributes:
        outcome: What became of the shard so far; its `unfinished` says whether another try can help.
    """

    def __init__(self, outcome: ShardOutcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome

    def __str__(self) -> str:
        return self.outcome.unfinished_text


class RetryOptions(TypedDict):
    """The arguments of `Task.with_options` that rule retries."""

    retries: int
    retry_delay_seconds: list[float]
    retry_jitter_factor: float
    retry_condition_fn: Any


def retry_options(retry: RetryConfig, classifier: ErrorClassifier | None = None) -> RetryOptions:
    """Return what makes Prefect retry a task as `retry` says, for errors that can pass.

    The delays are `retry`'s waits in seconds without their jitter, which Prefect draws itself.
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
