"""What goes into a run and what comes out of it: work items, their results, the batch's totals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar, cast

from .errors import ErrorInfo
from .strategies.base import LLMCallStrategy, TOutput

TInput = TypeVar("TInput")
TContext = TypeVar("TContext")


@dataclass
class LLMWorkItem(Generic[TInput, TOutput, TContext]):
    """One item to be answered.

    Attributes:
        item_id: Unique within a run, not blank.
        strategy: How the call is made; items may share one instance.
        prompt: What is sent.
        context: Passed through to the result, untouched.

    Raises:
        ValueError: `item_id` is not a string, or blank.
    """

    item_id: str
    strategy: LLMCallStrategy[TOutput]
    prompt: str = ""
    context: TContext | None = None

    def __post_init__(self) -> None:
        check_item_id(self.item_id)


def check_item_id(item_id: object) -> None:
    """Check an item's id; raises ValueError."""
    if not isinstance(item_id, str):
        raise ValueError(f"item_id is {item_id!r}; it must be a string: use str()")
    if not item_id.strip():
        raise ValueError(f"item_id is {item_id!r}; it must not be blank: give every item a name of its own")


@dataclass
class WorkItemResult(Generic[TOutput, TContext]):
    """What became of one item.

    Attributes:
        item_id: The item's id.
        success: Whether there is an output.
        output: The answer; None on failure.
        error: What went wrong; None on success.
        context: The item's context.
        token_usage: Tokens over every attempt that was billed: `input_tokens`, `output_tokens`, `total_tokens`,
            `cached_input_tokens`.
        gemini_safety_ratings: `{category: probability}` by their names, where Gemini gave them.
        error_info: What the classifier made of the last error; None on success. Its category is `not_attempted` for an
            item that never started because the run ended early, and `skipped` for one that a middleware dropped.
        attempts: Calls made for this item, those that ended in a rate limit included.
        duration_seconds: From the start of the item to its end, waits included.
        finish_reason: Why the last answer ended, in pydantic-ai's words: "stop", "length" at the token limit,
            "tool_call", "content_filter" or "error"; None where there was no answer, or no reason was reported.
    """

    item_id: str
    success: bool
    output: TOutput | None = None
    error: str | None = None
    context: TContext | None = None
    token_usage: dict[str, int] = field(default_factory=dict[str, int])
    gemini_safety_ratings: dict[str, str] | None = None
    error_info: ErrorInfo | None = field(default=None, kw_only=True)
    attempts: int = field(default=0, kw_only=True)
    duration_seconds: float = field(default=0.0, kw_only=True)
    finish_reason: str | None = field(default=None, kw_only=True)


@dataclass
class BatchResult(Generic[TOutput, TContext]):
    """The results of one run, in the order in which the items were added, and their totals.

    Attributes:
        results: One result an item.
        total_items: Items in all.
        succeeded: Items with an output.
        failed: Items without one.
        total_input_tokens: Sum over all items, failures included.
        total_output_tokens: Sum over all items, failures included.
    """

    results: list[WorkItemResult[TOutput, TContext]]
    total_items: int = 0
    succeeded: int = 0
    failed: int = 0
    total_input_tokens: int = 0
    total_output_tokens: int = 0

    def __post_init__(self) -> None:
        succeeded = sent = received = 0
        for result in self.results:
            # They are in users' hands by now, a post-processor's for one: totals must not break on what became of them.
            usage: Any = result.token_usage
            succeeded += result.success is True or _is_true(result.success)
            if isinstance(usage, dict):
                counts = cast("dict[str, object]", usage)
                one, other = counts.get("input_tokens"), counts.get("output_tokens")
                sent += one if type(one) is int else 0
                received += other if type(other) is int else 0
        self.total_items, self.succeeded, self.failed = len(self.results), succeeded, len(self.results) - succeeded
        self.total_input_tokens, self.total_output_tokens = sent, received


def _is_true(value: object) -> bool:
    try:
        return bool(value)
    except Exception:  # an array of several values, for one
        return False


PostProcessorFunc: TypeAlias = Callable[[WorkItemResult[TOutput, TContext]], Awaitable[None] | None]
"""Called after every item, success or not; a plain function runs in a thread."""

ProgressCallbackFunc: TypeAlias = Callable[[int, int, str], Awaitable[None] | None]
"""Called after every item with `(completed, total, item_id)`."""

AnyWorkItem: TypeAlias = LLMWorkItem[Any, Any, Any]
AnyResult: TypeAlias = WorkItemResult[Any, Any]
