"""Invalid values from users' code fail their own item and nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import looptime
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm import (
    BaseMiddleware,
    BatchResult,
    CallFailed,
    ErrorClassifier,
    ErrorInfo,
    ProcessorConfig,
    RetryConfig,
    WorkItemResult,
)
from tests.support.scripted_strategies import (
    Batch,
    ByItself,
    Item,
    Processor,
    Scripted,
    config,
    failure,
    items,
    process,
    processor,
)
from tests.support.selection import examples

Result = WorkItemResult[str, Any]


class Panic(BaseException):
    """Exception that is not an `Exception`, as an extension module may raise it."""


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """Turn logging off: hundreds of tracebacks would take longer than the runs."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


ODD: list[Any] = [
    None,
    5,
    -1,
    True,
    float("nan"),
    float("inf"),
    10**400,
    "5",
    b"x",
    [],
    ["x"],
    {},
    {"a": None},
    object(),
    {"input_tokens": None},
    {"input_tokens": -5},
    {3: 4},
    {"input_tokens": 10**400},
    np.array([1, 2]),
    Panic,
    Panic(),
]
RAISED = [
    ValueError("x" * 10_000),
    StopIteration(),
    StopAsyncIteration(),
    Panic(),
    asyncio.CancelledError(),
    TimeoutError(),
]
FIELDS = ["success", "token_usage", "error", "error_info", "gemini_safety_ratings", "attempts", "item_id", "context"]
PLACES = (
    *("prompt", "before", "after", "answer", "usage", "CallFailed", "ErrorInfo", "category", "classify", "wait"),
    *("flag", "post", "raises", "plain", "pause", "id", "prepare"),
)


def value_or_raise(value: Any) -> Any:
    if isinstance(value, BaseException):
        raise value
    return value


class Odd(Scripted, ErrorClassifier):
    """Strategy, classifier and limit strategy that returns `value` at `place`, for the item "odd" only."""

    def __init__(self, place: str, value: Any, field: str) -> None:
        super().__init__()
        self.place, self.value, self.field = place, value, field

    async def prepare(self) -> None:
        if self.place == "prepare":
            value_or_raise(self.value)

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        value = self.value
        match self.place:
            case "answer":
                return value
            case "usage":
                return "ok", value
            case "CallFailed":
                raise CallFailed(failure(), value) if self.field > "e" else CallFailed(value, {"input_tokens": 1})
            case "ErrorInfo" | "category" | "classify" | "wait" | "flag" | "pause":
                raise failure("rate_limit" if self.place == "pause" else "server_error")
            case "raises":
                raise value if isinstance(value, BaseException) else ValueError(value)
            case _:
                return "ok", {"input_tokens": 1}

    def classify(self, exception: Exception) -> ErrorInfo:
        match self.place:
            case "classify":
                return value_or_raise(self.value)
            case "category":
                return ErrorInfo(True, category=self.value)
            case "wait":
                return ErrorInfo(True, category="connection", suggested_wait=self.value)
            case "flag":
                return ErrorInfo(self.value, self.value, "server_error")
            case _:
                return ByItself().classify(exception)

    async def handle_rate_limit(self, error_info: ErrorInfo, attempt: int) -> float:
        return min(value_or_raise(self.value), 10.0)


class OddHooks(BaseMiddleware):
    def __init__(self, odd: Odd) -> None:
        self.odd = odd

    async def before_process(self, work_item: Item) -> Item | None:
        if work_item.item_id == "odd" and self.odd.place == "before":
            work_item.prompt = value_or_raise(self.odd.value)
        if work_item.item_id == "odd" and self.odd.place == "id":
            work_item.item_id = self.odd.value
        return work_item

    async def after_process(self, work_item: Item, result: Result) -> Result:
        if result.item_id == "odd" and self.odd.place == "after":
            setattr(result, self.odd.field, value_or_raise(self.odd.value))
        return result

    def post(self, result: Result) -> None:
        if result.item_id == "odd" and self.odd.place in ("post", "plain"):
            setattr(result, self.odd.field, self.odd.value)
            value_or_raise(self.odd.value)


async def run(odd: Odd) -> Batch:
    hooks = OddHooks(odd)
    work = [*items(2, Scripted([[1.0, "ok"]])), Item("odd", odd, odd.value if odd.place == "prompt" else "text")]
    return await process(
        [*work, Item("last", Scripted())],
        config(2, retry=RetryConfig(jitter=False)),
        middlewares=[hooks],
        post_processor=hooks.post,
        error_classifier=odd,
        rate_limit_strategy=odd,
    )


@examples(200)
@given(st.sampled_from(PLACES), st.sampled_from([*ODD, *RAISED]), st.sampled_from(FIELDS))
def test_invalid_value_fails_at_most_its_own_item(place: str, value: Any, field: str) -> None:
    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        batch = runner.run(run(Odd(place, value, field)))
        assert not asyncio.all_tasks(runner.get_loop())
    assert batch.total_items == batch.succeeded + batch.failed == 4
    others = [each for number, each in enumerate(batch.results) if number != 2]
    assert [(each.item_id, each.success) for each in others] == [("item-0", True), ("item-1", True), ("last", True)]
    assert len(str(batch.results[2].error)) < 5000 or place in ("post", "plain")


def odd_result(batch: Batch) -> tuple[str, str]:
    """Return the category and the error of the item "odd"."""
    result = batch.results[2]
    assert not result.success
    assert result.error_info is not None
    return result.error_info.category, str(result.error)


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (Odd("prompt", None, ""), "TypeError: the prompt of the item is None (NoneType); it must be a string"),
        (Odd("prompt", ["x"], ""), "the prompt of the item is ['x'] (list)"),
        (Odd("wait", "5", ""), "Odd.classify gave the suggested_wait '5' (str)"),
        (Odd("category", [], ""), "Odd.classify gave the category [] (list)"),
        (Odd("flag", "yes", ""), "Odd.classify gave the is_retryable 'yes' (str)"),
        (Odd("after", None, "success"), "OddHooks.after_process gave the success None (NoneType)"),
        (Odd("after", None, "token_usage"), "OddHooks.after_process gave the token_usage None (NoneType)"),
        (Odd("after", {"input_tokens": None}, "token_usage"), "it must be a dict of counts"),
        (Odd("CallFailed", None, "z"), "CallFailed.token_usage is None (NoneType)"),
        (Odd("CallFailed", "no", "a"), "CallFailed.error is 'no' (str); it must be an exception"),
        (Odd("answer", "text", ""), "Odd.execute returned 'text' (str)"),
        (Odd("raises", Panic("at src/lib.rs"), ""), "Crashed: Panic: at src/lib.rs"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else value.place,
)
async def test_error_names_the_invalid_value_and_its_origin(odd: Odd, words: str) -> None:
    category, error = odd_result(await run(odd))
    assert category == "programming"
    assert words in error


@pytest.mark.looptime
async def test_middleware_cannot_change_an_id_in_place() -> None:
    batch = await run(Odd("id", "renamed", ""))
    assert [each.item_id for each in batch.results] == ["item-0", "item-1", "odd", "last"]
    assert batch.succeeded == 4


@pytest.mark.looptime
async def test_billed_tokens_count_even_if_middleware_returns_an_invalid_result() -> None:
    batch = await run(Odd("after", None, "token_usage"))
    assert batch.results[2].token_usage == {"input_tokens": 1}


@pytest.mark.looptime
async def test_error_text_of_a_megabyte_is_truncated() -> None:
    (result,) = (await process([Item("a", Scripted([[ValueError("word " * 200_000)]]))])).results
    assert result.error is not None
    assert len(result.error) < 4100
    assert result.error.endswith("word ... (1,000,012 characters)")


def test_totals_ignore_counts_that_are_not_integers() -> None:
    odd: list[Any] = [Result("a", None, token_usage=None), Result("b", "yes"), Result("c", True)]  # pyright: ignore[reportArgumentType]
    odd[2].token_usage = {"input_tokens": None, "output_tokens": 3}
    batch = BatchResult[str, Any](odd)
    assert (batch.total_items, batch.failed, batch.total_input_tokens, batch.total_output_tokens) == (3, 1, 0, 3)


@pytest.mark.parametrize("given", [None, {}, "config", ProcessorConfig])
def test_value_that_is_not_a_config_is_refused_with_its_type(given: Any) -> None:
    with pytest.raises(ValueError, match=r"config is .* must be a ProcessorConfig"):
        Processor(given)


@pytest.mark.looptime
async def test_changed_settings_are_validated_when_a_run_begins() -> None:
    changed = config()
    engine = processor(changed)
    changed.max_workers = 0
    with pytest.raises(ValueError, match="max_workers"):
        await engine.add_work(Item("a", Scripted()))
    changed.max_workers = 1
    await engine.add_work(Item("a", Scripted()))
    changed.retry.max_attempts = 0  # the run has a copy
    assert (await engine.process_all()).succeeded == 1
