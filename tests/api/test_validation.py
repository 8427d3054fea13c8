"""Invalid arguments are refused at construction, with value, rule and fix."""

from __future__ import annotations

import math
from typing import Any

import pytest

from batch_llm import (
    BatchResult,
    ErrorInfo,
    Limits,
    LLMCallStrategy,
    LLMWorkItem,
    ProcessorConfig,
    RateLimitConfig,
    RetryConfig,
    WorkItemResult,
)


class Echo(LLMCallStrategy[str]):
    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        return prompt, {}


@pytest.mark.parametrize("item_id", ["", "  ", "\n", None, 3, b"x"])
def test_item_id_must_be_a_string_that_is_not_blank(item_id: Any) -> None:
    with pytest.raises(ValueError, match="item_id"):
        LLMWorkItem(item_id, Echo())


NO_NUMBERS: list[Any] = [math.nan, math.inf, -math.inf, True, "3", None]

BAD: list[tuple[type, str, Any]] = [
    *((RetryConfig, "max_attempts", value) for value in [0, -1, 1.5, *NO_NUMBERS]),
    *((RetryConfig, "initial_wait", value) for value in [0, -1, *NO_NUMBERS]),
    *((RetryConfig, "max_wait", value) for value in [0.5, *NO_NUMBERS]),
    *((RetryConfig, "exponential_base", value) for value in [0.9, *NO_NUMBERS]),
    *((RetryConfig, "jitter", value) for value in [1, "yes", None]),
    *((RateLimitConfig, "cooldown_seconds", value) for value in [-1, *NO_NUMBERS]),
    *((RateLimitConfig, "slow_start_items", value) for value in [-1, 1.5, *NO_NUMBERS]),
    *((RateLimitConfig, "slow_start_initial_delay", value) for value in [0.05, -1, *NO_NUMBERS]),
    *((RateLimitConfig, "slow_start_final_delay", value) for value in [3, -1, *NO_NUMBERS]),
    *((RateLimitConfig, "backoff_multiplier", value) for value in [0.9, *NO_NUMBERS]),
    *((RateLimitConfig, "max_rate_limit_retries", value) for value in [-1, 1.5, *NO_NUMBERS]),
    *((RateLimitConfig, "max_cooldown_seconds", value) for value in [-1, *NO_NUMBERS]),
    *((Limits, "requests_per_minute", value) for value in [0, -1, math.nan, math.inf, True, "3"]),
    *((Limits, "output_tokens_per_minute", value) for value in [0, -1, math.nan, math.inf, True, "3"]),
    *((ProcessorConfig, "max_workers", value) for value in [0, -1, 1.5, *NO_NUMBERS]),
    *((ProcessorConfig, "timeout_per_item", value) for value in [0, -1, *NO_NUMBERS]),
    *((ProcessorConfig, "progress_interval", value) for value in [0, -1, 1.5, *NO_NUMBERS]),
    *((ProcessorConfig, "max_queue_size", value) for value in [-1, 1.5, *NO_NUMBERS]),
    *((ProcessorConfig, "retry", value) for value in [None, "default", 3]),
    *((ProcessorConfig, "rate_limit", value) for value in [None, "default", 3]),
    *((ProcessorConfig, "dry_run", value) for value in [1, "no", None]),
    *((ProcessorConfig, "enable_detailed_logging", value) for value in [1, "no", None]),
]


@pytest.mark.parametrize(("kind", "name", "value"), BAD)
def test_error_of_an_invalid_setting_has_name_value_and_rule(kind: type, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        kind(**{name: value})
    assert repr(value) in str(caught.value)
    assert name in str(caught.value)


def test_values_at_the_bounds_are_allowed() -> None:
    RetryConfig(max_attempts=1, initial_wait=1, max_wait=1, exponential_base=1)
    RateLimitConfig(cooldown_seconds=0, slow_start_items=0, slow_start_initial_delay=0, slow_start_final_delay=0)
    RateLimitConfig(backoff_multiplier=1, max_rate_limit_retries=0, max_cooldown_seconds=0)
    ProcessorConfig(max_workers=1, timeout_per_item=0.001, progress_interval=1, max_queue_size=0)


def test_rule_in_the_error_says_whether_the_bound_is_allowed() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        ProcessorConfig(timeout_per_item=0)
    with pytest.raises(ValueError, match="1 or more"):
        RateLimitConfig(backoff_multiplier=0.5)


def test_totals_are_computed_from_the_results() -> None:
    results = [
        WorkItemResult[str, None]("a", True, output="x", token_usage={"input_tokens": 2, "output_tokens": 3}),
        WorkItemResult[str, None]("b", False, error="no", token_usage={"input_tokens": 5}),
    ]
    batch = BatchResult(results, total_items=99, succeeded=99)
    assert (batch.total_items, batch.succeeded, batch.failed) == (2, 1, 1)
    assert (batch.total_input_tokens, batch.total_output_tokens) == (7, 3)


def test_defaults_are_not_shared() -> None:
    one, other = WorkItemResult[str, None]("a", True), WorkItemResult[str, None]("b", True)
    one.token_usage["input_tokens"] = 1
    assert other.token_usage == {}
    assert ProcessorConfig().retry is not ProcessorConfig().retry
    assert ErrorInfo(True) == ErrorInfo(is_retryable=True, is_rate_limit=False, category="unknown", suggested_wait=None)
