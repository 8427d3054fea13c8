"""Input and output of a run: work items, their results and the totals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from .errors import ErrorInfo
from .strategies.base import LLMCallStrategy, TOutput

TInput = TypeVar("TInput")
TContext = TypeVar("TContext")


@dataclass
class LLMWorkItem(Generic[TInput, TOutput, TContext]):
    """One item to process: an id, a prompt and the strategy that makes the call.

    Attributes:
        item_id: Id of the item, unique within a run and not blank.
        strategy: Strategy that makes the call; items may share one instance.
        prompt: Text that is sent.
        context: Any value; it is copied to the result unchanged.

    Raises:
        ValueError: `item_id` is not a string, or is blank.

    Example:
        item = LLMWorkItem(item_id="doc-1", strategy=strategy, prompt="Summarize: ...", context={"row": 1})
    """

    item_id: str
    strategy: LLMCallStrategy[TOutput]
    prompt: str = ""
    context: TContext | None = None

    def __post_init__(self) -> None:
        check_item_id(self.item_id)


def check_item_id(item_id: object) -> None:
    """Check that an item id is a string and not blank.

    Raises:
        ValueError: It is not a string, or is blank.
    """
    if not isinstance(item_id, str):
        raise ValueError(f"item_id is {item_id!r}; it must be a string: use str()")
    if not item_id.strip():
        raise ValueError(f"item_id is {item_id!r}; it must not be blank: give every item its own id")


@dataclass
class WorkItemResult(Generic[TOutput, TContext]):
    """Result of one item: its output, or its error.

    Attributes:
        item_id: Id of the item.
        success: Whether there is an output.
        output: The answer; None on failure.
        error: Error message; None on success.
        context: Context of the item.
        token_usage: Sum of the tokens of all billed attempts: `input_tokens`, `output_tokens`, `total_tokens`,
            `cached_input_tokens`.
        gemini_safety_ratings: `{category: probability}`, if Gemini reported safety ratings.
        error_info: Classification of the last error; None on success. The category is `not_attempted` for an item that
            never started because the run stopped early, and `skipped` for an item that a middleware dropped.
        attempts: Number of calls made for this item, including those that ended in a rate limit.
        duration_seconds: Time from the start of the item to its end, including waits.
        call_seconds: Duration of the last call, without waits; 0.0 if there was no call.
        finish_reason: Why the last answer ended, as pydantic-ai names it: "stop", "length" at the token limit,
            "tool_call", "content_filter" or "error"; None if there was no answer, or no reason was reported.

    Example:
        for result in batch.results:
            print(result.item_id, result.output if result.success else result.error)
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
    call_seconds: float = field(default=0.0, kw_only=True)
    finish_reason: str | None = field(default=None, kw_only=True)


@dataclass
class BatchResult(Generic[TOutput, TContext]):
    """Results of one run, in the order in which the items were added, and their totals.

    Attributes:
        results: One result per item.
        total_items: Number of items.
        succeeded: Number of items with an output.
        failed: Number of items without an output.
        total_input_tokens: Input tokens of all items, including failed ones.
        total_output_tokens: Output tokens of all items, including failed ones.

    Example:
        batch = await processor.process_all()
        print(f"{batch.succeeded} of {batch.total_items} succeeded")
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
            # Users' code, such as a post-processor, may have changed the result: totals must not fail on that.
            usage: Any = result.token_usage
            if result.success is True or _is_true(result.success):
                succeeded += 1
            if isinstance(usage, dict):
                counts: dict[str, object] = usage  # pyright: ignore[reportUnknownVariableType]
                one, other = counts.get("input_tokens"), counts.get("output_tokens")
                sent += one if type(one) is int else 0
                received += other if type(other) is int else 0
        self.total_items, self.succeeded, self.failed = len(self.results), succeeded, len(self.results) - succeeded
        self.total_input_tokens, self.total_output_tokens = sent, received


def _is_true(value: object) -> bool:
    try:
        return bool(value)
    except Exception:  # raised by an array of several values, for example
        return False


PostProcessorFunc: TypeAlias = Callable[[WorkItemResult[TOutput, TContext]], Awaitable[None] | None]
"""Function called with the result of every item, successful or failed; a plain function runs in a thread."""

ProgressCallbackFunc: TypeAlias = Callable[[int, int, str], Awaitable[None] | None]
"""Function called with `(completed, total, item_id)` after every item; a plain function runs in a thread."""

AnyWorkItem: TypeAlias = LLMWorkItem[Any, Any, Any]
AnyResult: TypeAlias = WorkItemResult[Any, Any]
