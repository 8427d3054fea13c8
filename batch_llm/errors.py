"""What went wrong, in words that decide what happens next.

    BatchLLMError
    ├── JobError            a job, source, model or output that cannot work; also a ValueError
    ├── CallFailed          raised by a strategy: a failed call that was billed all the same
    ├── ContentFiltered     raised by a strategy: the provider blocked the prompt or the answer
    ├── AnswerTruncated     raised by a strategy: the token limit cut off an answer that must be whole; a ValueError
    ├── AttemptTimedOut     what a classifier sees of a call that took longer than `timeout_per_item`; a TimeoutError
    ├── RequestTooLarge     what an item failed with that no minute of a token limit has room for
    ├── ResponseTooLarge    what an item failed with whose answer had no end, or was a bomb
    ├── RedirectRefused     what an item failed with whose request was to go on to another host
    ├── RunStopped          a stream ended before its items did, by an error that all of them would have met
    └── CallCancelled       what a classifier sees of a call that was cancelled from within, not by the run

An item's failure is no exception here: it is a `WorkItemResult` with an `ErrorInfo`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

FATAL_CATEGORIES = frozenset({"auth", "quota_exhausted", "model_not_found"})
"""Categories that every further item of a run would meet too, so the run ends early.

`auth` counts as one as long as no call of the run was answered; after that, several in a row do.
"""


class BatchLLMError(Exception):
    """Base of every exception that this package raises for a caller to catch."""


class JobError(BatchLLMError, ValueError):
    """A job that cannot run as it is written: one line that says what, where and what to do."""


class CallFailed(BatchLLMError):
    """A call that failed, and the tokens that it cost: `raise CallFailed(error, usage) from error`.

    The engine counts the tokens and goes on with `error` as if the strategy had raised that itself; classifiers,
    middleware and results see nothing of the wrapper.

    Attributes:
        error: What went wrong.
        token_usage: What was billed; a `TokenUsage` may carry safety ratings too.
    """

    def __init__(self, error: Exception, token_usage: dict[str, int]) -> None:
        super().__init__(error, token_usage)
        self.error = error
        self.token_usage = token_usage

    def __str__(self) -> str:
        return str(self.error)


class ContentFiltered(BatchLLMError):
    """The provider blocked the prompt or the answer; asking again would be blocked again."""


class AnswerTruncated(BatchLLMError, ValueError):
    """The token limit cut off an answer that must be whole; the same call would end at the same place."""


class AttemptTimedOut(BatchLLMError, TimeoutError):
    """A call did not end within `ProcessorConfig.timeout_per_item`; a provider's own timeout is another type."""


class RequestTooLarge(BatchLLMError):
    """A prompt alone is more than a token limit allows in a minute, so it was not sent."""


class ResponseTooLarge(BatchLLMError):
    """A provider sent more for one answer than is read; asking again would most likely be paid for again."""


class RedirectRefused(BatchLLMError):
    """A provider's address redirects to another host, to which no prompt is sent."""


class CallCancelled(BatchLLMError):
    """A strategy's call ended in a `CancelledError` although nobody cancelled the run."""


@dataclass
class ErrorInfo:
    """What a classifier makes of an exception.

    Attributes:
        is_retryable: Whether another attempt can succeed.
        is_rate_limit: Whether the provider asked to slow down; pauses the whole run.
        category: `rate_limit`, `quota_exhausted`, `timeout`, `connection`, `server_error`, `auth`, `forbidden`,
            `model_not_found`, `not_found`, `invalid_request`, `validation`, `content_filter`, `programming` or
            `unknown`.
        suggested_wait: Seconds that the provider asked to wait, if it said.
        never_sent: Whether the request never left, as when no connection was to be had in time: it uses up no attempt
            and none of the provider's limit.
        resets_in: Seconds until a used-up quota is full again, where the provider said so.
    """

    is_retryable: bool
    is_rate_limit: bool = False
    category: str = "unknown"
    suggested_wait: float | None = None
    never_sent: bool = False
    resets_in: float | None = field(default=None, compare=False)


class RunStopped(BatchLLMError):
    """A fatal error ended a stream early; raised by `process_stream` after the last result, from that error.

    `process_all` does not raise it: there, every item has a result, and `ParallelBatchProcessor.stopped_by` tells.

    Attributes:
        error_info: What the classifier made of the error; its category is `auth`, for example.
    """

    def __init__(self, error_info: ErrorInfo) -> None:
        super().__init__(error_info)
        self.error_info = error_info

    def __str__(self) -> str:
        return (
            f"the run was stopped early by {self.error_info.category}: what was not answered by then has no result, or "
            "one of category not_attempted; remove the cause and process the rest"
        )


class ErrorClassifier(ABC):
    """Turns an exception into an `ErrorInfo`; one classifier serves the engine's retries and Prefect's."""

    @abstractmethod
    def classify(self, exception: Exception) -> ErrorInfo:
        """Return what is known of `exception`, without changing it."""
