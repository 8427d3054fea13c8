"""Exceptions of the package, and the error information that decides about retries.

    BatchLLMError
    ├── JobError            invalid job, source, model or output; also a ValueError
    ├── CallFailed          raised by a strategy: a failed call that was billed
    ├── ContentFiltered     raised by a strategy: the provider blocked the prompt or the answer
    ├── AnswerTruncated     raised by a strategy: the token limit cut off an answer that must be complete; a ValueError
    ├── AttemptTimedOut     passed to the classifier: a call took longer than `timeout_per_item`; a TimeoutError
    ├── RequestTooLarge     error of an item: its prompt alone exceeds a token limit per minute
    ├── ResponseTooLarge    error of an item: its response is endless, or a decompression bomb
    ├── RedirectRefused     error of an item: its request was redirected to another host
    ├── TierUnavailable     stops the run: the model cannot be called at the service tier of the job's lane
    ├── RunStopped          raised by `process_stream`: a fatal error stopped the run before its last item
    └── CallCancelled       passed to the classifier: a call was cancelled, but not by the run

A failed item does not raise an exception: its result is a `WorkItemResult` with an `ErrorInfo`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

FATAL_CATEGORIES = frozenset({"auth", "quota_exhausted", "model_not_found"})
"""Categories of errors that every remaining item would meet too, so the run stops early.

`auth` is fatal as long as no call of the run was answered; after that, several consecutive ones are.
"""


class BatchLLMError(Exception):
    """Base class of all exceptions that callers of this package may catch."""


class JobError(BatchLLMError, ValueError):
    """Invalid job: its one-line message contains the problem, the place and the fix."""


class CallFailed(BatchLLMError):
    """Failed call that was billed, with its token usage.

    The engine counts the tokens and continues with `error`, as if the strategy had raised `error` itself. Classifiers,
    middleware and results never contain the wrapper.

    Attributes:
        error: The error of the call.
        token_usage: The billed tokens; a `TokenUsage` may also contain safety ratings.

    Example:
        try:
            output = parse(response)
        except ValueError as error:
            raise CallFailed(error, {"input_tokens": 120, "output_tokens": 40, "total_tokens": 160}) from error
    """

    def __init__(self, error: Exception, token_usage: dict[str, int]) -> None:
        super().__init__(error, token_usage)
        self.error = error
        self.token_usage = token_usage

    def __str__(self) -> str:
        return str(self.error)


class ContentFiltered(BatchLLMError):
    """The provider blocked the prompt or the answer; another attempt would be blocked again."""


class AnswerTruncated(BatchLLMError, ValueError):
    """The token limit cut off an answer that must be complete; another attempt would be cut off too."""


class AttemptTimedOut(BatchLLMError, TimeoutError):
    """A call took longer than `ProcessorConfig.timeout_per_item`; a client timeout has another type."""


class RequestTooLarge(BatchLLMError):
    """A single prompt exceeds a token limit per minute, so it was not sent."""


class ResponseTooLarge(BatchLLMError):
    """A response exceeds the largest size that is read; another attempt would most likely be billed again."""


class RedirectRefused(BatchLLMError):
    """The provider's address redirects to another host; prompts are not sent to other hosts."""


class TierUnavailable(BatchLLMError):
    """The model cannot be called at the service tier of the job's lane; every other item would fail too."""


class CallCancelled(BatchLLMError):
    """The call of a strategy raised `CancelledError` although the run was not cancelled."""


@dataclass
class ErrorInfo:
    """Classification of an exception: whether and when to retry.

    Attributes:
        is_retryable: Whether another attempt can succeed.
        is_rate_limit: Whether the provider reported a rate limit; starts a cooldown of the whole run.
        category: `rate_limit`, `quota_exhausted`, `timeout`, `connection`, `server_error`, `auth`, `forbidden`,
            `model_not_found`, `not_found`, `invalid_request`, `validation`, `content_filter`, `programming` or
            `unknown`.
        suggested_wait: Seconds that the provider asked to wait; None if it did not.
        never_sent: Whether the request was never sent, for example because no connection was available in time. Such a
            call does not count as an attempt, nor towards the provider's limit.
        resets_in: Seconds until an exhausted quota resets, if the provider reports it.

    Example:
        info = ErrorInfo(is_retryable=True, is_rate_limit=True, category="rate_limit", suggested_wait=20.0)
    """

    is_retryable: bool
    is_rate_limit: bool = False
    category: str = "unknown"
    suggested_wait: float | None = None
    never_sent: bool = False
    resets_in: float | None = field(default=None, compare=False)


class RunStopped(BatchLLMError):
    """A fatal error stopped a stream early; raised by `process_stream` after the last result, from that error.

    `process_all` does not raise it: every item has a result then, and `ParallelBatchProcessor.stopped_by` contains the
    reason.

    Attributes:
        error_info: Classification of the fatal error; its category is `auth`, for example.
    """

    def __init__(self, error_info: ErrorInfo) -> None:
        super().__init__(error_info)
        self.error_info = error_info

    def __str__(self) -> str:
        return (
            f"the run was stopped early by {self.error_info.category}: unanswered items have no result, or a result of "
            "category not_attempted; fix the cause and process the remaining items"
        )


class ErrorClassifier(ABC):
    """Base class of classifiers, which turn an exception into an `ErrorInfo`.

    Example:
        class MyClassifier(ErrorClassifier):
            def classify(self, exception: Exception) -> ErrorInfo:
                if isinstance(exception, MyProviderBusy):
                    return ErrorInfo(is_retryable=True, is_rate_limit=True, category="rate_limit")
                return DefaultErrorClassifier().classify(exception)
    """

    @abstractmethod
    def classify(self, exception: Exception) -> ErrorInfo:
        """Return the classification of `exception`; do not modify the exception."""
