"""Attempts of run_one item: retries, waits, timeouts, counts and events."""

from __future__ import annotations

import asyncio

import pytest

from batch_llm import (
    AttemptTimedOut,
    CallFailed,
    ErrorClassifier,
    ErrorInfo,
    LLMCallStrategy,
    ProcessingEvent,
    RateLimitConfig,
    RetryConfig,
    TokenUsage,
)
from tests.support.scripted_strategies import (
    ByItself,
    Failure,
    Item,
    Notes,
    Scripted,
    Step,
    config,
    failure,
    items,
    now,
    process,
)

pytestmark = pytest.mark.looptime


async def run_one(script: list[list[Step]], settings: RetryConfig | None = None, timeout: float = 120.0):
    strategy = Scripted(script)
    batch = await process([Item("a", strategy)], config(retry=settings, timeout=timeout))
    return batch.results[0], strategy


async def test_backoff_grows_to_its_limit() -> None:
    retry = RetryConfig(max_attempts=6, initial_wait=1, max_wait=5, exponential_base=2, jitter=False)
    result, strategy = await run_one([[failure()]], retry)
    assert strategy.starts == [0, 1, 3, 7, 12, 17]
    assert [attempt for _, _, attempt in strategy.calls] == [1, 2, 3, 4, 5, 6]
    assert not result.success
    assert result.attempts == 6


async def test_jitter_draws_from_half_to_all_of_the_wait() -> None:
    retry = RetryConfig(max_attempts=2, initial_wait=8, max_wait=8)
    strategy = Scripted([[failure()]])
    await process(items(200, strategy), config(200, retry=retry))
    waits = strategy.starts[200:]
    assert all(4 <= wait <= 8 for wait in waits)
    assert min(waits) < 4.5
    assert max(waits) > 7.5


async def test_huge_attempts_do_not_overflow() -> None:
    retry = RetryConfig(max_attempts=1500, initial_wait=1, max_wait=2, exponential_base=10, jitter=False)
    result, _ = await run_one([[failure()]], retry)
    assert result.attempts == 1500
    assert now() == 1 + 1498 * 2


async def test_a_retry_that_succeeds_is_a_success() -> None:
    result, strategy = await run_one([[failure()], ["fine"]])
    assert (result.success, result.output, result.error, result.error_info) == (True, "fine", None, None)
    assert strategy.starts == [0, 1]
    assert result.duration_seconds == 1


async def test_non_retryable_error_causes_one_call() -> None:
    result, strategy = await run_one([[failure("invalid_request", retryable=False)]])
    assert len(strategy.calls) == 1
    assert result.error == "Failure: boom"
    assert result.error_info is not None
    assert result.error_info.category == "invalid_request"


async def test_the_wait_is_at_least_what_the_provider_suggests() -> None:
    _, strategy = await run_one([[failure(wait=30)], [failure(wait=0.5)], ["ok"]])
    assert strategy.starts == [0, 30, 32]


async def test_suggested_wait_beyond_max_wait_is_respected() -> None:
    _, strategy = await run_one([[failure(wait=500)], ["ok"]], RetryConfig(max_wait=60, jitter=False))
    assert strategy.starts == [0, 500]


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), -5.0])
async def test_suggestion_that_is_not_a_valid_time_is_ignored(nonsense: float) -> None:
    _, strategy = await run_one([[failure(wait=nonsense)], ["ok"]])
    assert strategy.starts == [0, 1]


async def test_a_validation_failure_is_retried_at_once() -> None:
    _, strategy = await run_one([[failure("validation")], [failure("validation")], ["ok"]])
    assert strategy.starts == [0, 0, 0]


async def test_timeout_bounds_each_call_but_not_the_waits() -> None:
    result, strategy = await run_one([[100.0]], timeout=10.0)
    assert strategy.starts == [0, 11, 23]
    assert result.error == "AttemptTimedOut: no answer within 10 s (timeout_per_item)"


async def test_each_call_of_a_worker_has_the_whole_timeout() -> None:
    """The calls of a worker share a timer, which ends the run_one that hangs on time."""
    work = [Item(str(number), Scripted([[seconds]])) for number, seconds in enumerate([9.0, 9.5, 0.0, 100.0, 9.0])]
    began = asyncio.get_running_loop().time()
    batch = await process(work, config(1, retry=RetryConfig(max_attempts=1), timeout=10.0))
    assert [each.success for each in batch.results] == [True, True, True, False, True]
    assert [each.duration_seconds for each in batch.results] == pytest.approx([9.0, 9.5, 0.0, 10.0, 9.0])
    assert asyncio.get_running_loop().time() - began == pytest.approx(37.5)


async def test_waiting_for_a_worker_does_not_time_out() -> None:
    batch = await process(items(5, Scripted([[9.0]])), config(1, timeout=10.0))
    assert batch.succeeded == 5


async def test_timeout_of_the_provider_and_of_the_engine_are_different_errors() -> None:
    own, ours = ByItself(), ByItself()
    await process([Item("a", Scripted([[TimeoutError("read")]]))], error_classifier=own)
    await process([Item("a", Scripted([[100.0]]))], config(timeout=1), error_classifier=ours)
    assert {type(error) for error in own.seen} == {TimeoutError}
    assert {type(error) for error in ours.seen} == {AttemptTimedOut}


@pytest.mark.parametrize("answer", ["text", ("only",), ("a", "b", "c"), ("a", None), ("a", 3), None])
async def test_return_value_of_the_wrong_shape_is_a_programming_error(answer: object) -> None:
    calls: list[int] = []

    class Odd(LLMCallStrategy[str]):
        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            calls.append(attempt)
            return answer  # pyright: ignore[reportReturnType]  what an untyped strategy may do

    class Hopeful(ErrorClassifier):
        def classify(self, exception: Exception) -> ErrorInfo:
            return ErrorInfo(is_retryable=True)

    (result,) = (await process([Item("a", Odd())], error_classifier=Hopeful())).results
    assert calls == [1]
    assert result.error_info == ErrorInfo(is_retryable=False, category="programming")
    assert "must return" in str(result.error)


async def test_default_classifier_uses_exception_type_and_status() -> None:
    class Refused(Exception):
        def __init__(self) -> None:
            self.status_code, self.headers = 429, {"retry-after": "40"}

    strategies = [
        Scripted([[ConnectionResetError()], ["ok"]]),
        Scripted([[Refused()], ["ok"]]),
        Scripted([[KeyError()]]),
    ]
    work = [Item(str(number), strategy) for number, strategy in enumerate(strategies)]
    rate_limit = RateLimitConfig(slow_start_items=0)
    batch = await process(work, config(1, rate_limit=rate_limit), error_classifier=None)
    assert [strategy.starts for strategy in strategies] == [[0, 1], [1, 41], [41]]
    assert batch.results[2].error_info == ErrorInfo(is_retryable=False, category="programming")


async def test_a_classifier_that_raises_fails_the_item_with_its_own_error() -> None:
    class Broken(ErrorClassifier):
        def classify(self, exception: Exception) -> ErrorInfo:
            raise KeyError("status")

    (result,) = (await process([Item("a", Scripted([[failure()]]))], error_classifier=Broken())).results
    assert result.error == "KeyError: 'status'"
    assert result.error_info is not None
    assert result.error_info.category == "programming"


async def test_a_classifier_that_returns_nonsense_fails_the_item() -> None:
    class Silent(ErrorClassifier):
        def classify(self, exception: Exception) -> ErrorInfo:
            return None  # pyright: ignore[reportReturnType]  what an untyped classifier may do

    (result,) = (await process([Item("a", Scripted([[failure()]]))], error_classifier=Silent())).results
    assert "must be an ErrorInfo" in str(result.error)


async def test_tokens_of_failed_attempts_count_once() -> None:
    error = failure()
    billed = CallFailed(error, {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15})
    result, _ = await run_one([[billed], [billed], ["ok"]])
    assert result.token_usage == {"input_tokens": 21, "output_tokens": 12, "total_tokens": 33}
    assert vars(error) == {"info": error.info}  # nothing is pinned onto an exception


async def test_tokens_of_an_item_that_failed_are_in_the_totals() -> None:
    billed = CallFailed(failure(retryable=False), {"input_tokens": 10, "output_tokens": 5})
    batch = await process([Item("a", Scripted([[billed]])), Item("b", Scripted())])
    assert (batch.total_input_tokens, batch.total_output_tokens) == (11, 7)
    assert batch.results[0].error == "Failure: boom"


async def test_classifiers_do_not_see_the_wrapper_of_a_billed_failure() -> None:
    classifier, error = ByItself(), failure(retryable=False)
    await process([Item("a", Scripted([[CallFailed(error, {})]]))], error_classifier=classifier)
    assert classifier.seen == [error]


async def test_a_billed_call_that_times_out_is_a_timeout_and_billed() -> None:
    class Late(LLMCallStrategy[str]):
        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError as error:
                raise CallFailed(RuntimeError("late"), {"input_tokens": 4}) from error
            return "", {}

    classifier = ByItself()
    batch = await process([Item("a", Late())], config(timeout=1), error_classifier=classifier)
    assert batch.total_input_tokens == 12
    assert {type(error) for error in classifier.seen} == {AttemptTimedOut}


async def test_token_counts_that_are_not_numbers_count_as_zero() -> None:
    class Odd(LLMCallStrategy[str]):
        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            return "ok", {"input_tokens": None, "output_tokens": 2}  # pyright: ignore[reportReturnType]  an SDK's None

    batch = await process([Item("a", Odd())])
    assert (batch.succeeded, batch.total_input_tokens, batch.total_output_tokens) == (1, 0, 2)


async def test_safety_ratings_reach_the_result_of_successes_and_failures() -> None:
    class Rated(LLMCallStrategy[str]):
        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            usage = TokenUsage({"input_tokens": 1}, safety_ratings={"HARM_CATEGORY_HARASSMENT": prompt})
            if prompt == "HIGH":
                raise CallFailed(failure("content_filter", retryable=False), usage)
            return "ok", usage

    batch = await process([Item("a", Rated(), "LOW"), Item("b", Rated(), "HIGH")])
    ratings = [each.gemini_safety_ratings for each in batch.results]
    assert ratings == [{"HARM_CATEGORY_HARASSMENT": "LOW"}, {"HARM_CATEGORY_HARASSMENT": "HIGH"}]


async def test_exception_whose_str_raises_fails_only_its_item() -> None:
    class Mute(Failure):
        def __str__(self) -> str:
            raise RuntimeError

    result, _ = await run_one([[Mute(ErrorInfo(is_retryable=False))]])
    assert result.error == "Mute"


async def test_retry_event_has_attempt_wait_and_category() -> None:
    notes = Notes()
    await process([Item("a", Scripted([[failure()], [failure("validation")], ["ok"]]))], observers=[notes])
    assert notes.of(ProcessingEvent.RETRY_SCHEDULED) == [
        {"item_id": "a", "attempt": 1, "wait": 1.0, "category": "server_error"},
        {"item_id": "a", "attempt": 2, "wait": 0.0, "category": "validation"},
    ]


async def test_context_is_passed_through_untouched() -> None:
    context = {"user": 1}
    good, bad = (
        Item("a", Scripted(), context=context),
        Item("b", Scripted([[failure(retryable=False)]]), context=context),
    )
    assert all(each.context is context for each in (await process([good, bad])).results)


async def test_a_configuration_is_not_changed_by_a_run() -> None:
    settings, fresh = config(), config()
    await process(items(3, Scripted([[failure()], ["ok"]])), settings)
    assert settings == fresh


async def test_strategies_that_never_wait_do_not_block_the_loop() -> None:
    class AtOnce(LLMCallStrategy[str]):
        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            return "ok", {}

    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    await process(items(1000, AtOnce()))
    ticking.cancel()
    await asyncio.wait([ticking])
    assert ticks > 10


async def test_error_names_the_public_base_of_a_private_exception() -> None:
    class _Internal(Failure):
        pass

    result, _ = await run_one([[_Internal(ErrorInfo(is_retryable=False))]])
    assert str(result.error).startswith("Failure")
