"""Fields, parameters and defaults have the reference's names and order; additions come after them."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest

import batch_llm
from batch_llm import (
    BaseMiddleware,
    BaseObserver,
    BatchProcessor,
    BatchResult,
    DefaultErrorClassifier,
    ErrorClassifier,
    ErrorInfo,
    ExponentialBackoffStrategy,
    FixedDelayStrategy,
    GeminiCachedStrategy,
    GeminiErrorClassifier,
    GeminiStrategy,
    LLMCallStrategy,
    LLMWorkItem,
    MetricsObserver,
    Middleware,
    ParallelBatchProcessor,
    ProcessingEvent,
    ProcessorConfig,
    ProcessorObserver,
    PydanticAIStrategy,
    RateLimitConfig,
    RateLimitStrategy,
    RetryConfig,
    WorkItemResult,
)

REQUIRED = inspect.Parameter.empty

FIELDS: dict[type, dict[str, Any]] = {
    LLMWorkItem: {"item_id": REQUIRED, "strategy": REQUIRED, "prompt": "", "context": None},
    WorkItemResult: {
        "item_id": REQUIRED,
        "success": REQUIRED,
        "output": None,
        "error": None,
        "context": None,
        "token_usage": {},
        "gemini_safety_ratings": None,
    },
    BatchResult: {
        "results": REQUIRED,
        "total_items": 0,
        "succeeded": 0,
        "failed": 0,
        "total_input_tokens": 0,
        "total_output_tokens": 0,
    },
    ProcessorConfig: {
        "max_workers": 5,
        "timeout_per_item": 120.0,
        "retry": RetryConfig(),
        "rate_limit": RateLimitConfig(),
        "progress_interval": 10,
        "enable_detailed_logging": False,
        "max_queue_size": 0,
        "dry_run": False,
    },
    RetryConfig: {
        "max_attempts": 3,
        "initial_wait": 1.0,
        "max_wait": 60.0,
        "exponential_base": 2.0,
        "jitter": True,
    },
    RateLimitConfig: {
        "cooldown_seconds": 300.0,
        "slow_start_items": 50,
        "slow_start_initial_delay": 2.0,
        "slow_start_final_delay": 0.1,
        "backoff_multiplier": 1.5,
    },
    ErrorInfo: {"is_retryable": REQUIRED, "is_rate_limit": False, "category": "unknown", "suggested_wait": None},
}


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
def test_fields_and_defaults_are_those_of_the_reference(kind: type) -> None:
    assert dataclasses.is_dataclass(kind)
    found: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        default = REQUIRED if field.default is dataclasses.MISSING else field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        found[field.name] = default
    documented = FIELDS[kind]
    assert list(found)[: len(documented)] == list(documented)
    assert {name: found[name] for name in documented} == documented
    assert all(found[name] is not REQUIRED for name in list(found)[len(documented) :])


SIGNATURES: list[tuple[Any, str]] = [
    (LLMCallStrategy[Any].prepare, "self"),
    (LLMCallStrategy[Any].execute, "self prompt attempt timeout"),
    (LLMCallStrategy[Any].cleanup, "self"),
    (ParallelBatchProcessor[Any, Any, Any].add_work, "self work_item"),
    (ParallelBatchProcessor[Any, Any, Any].process_all, "self"),
    (ParallelBatchProcessor[Any, Any, Any].cleanup, "self"),
    (ErrorClassifier.classify, "self exception"),
    (RateLimitStrategy.handle_rate_limit, "self error_info attempt"),
    (Middleware.before_process, "self work_item"),
    (Middleware.after_process, "self work_item result"),
    (Middleware.on_error, "self work_item error"),
    (ProcessorObserver.on_event, "self event data"),
    (MetricsObserver.get_metrics, "self"),
    (MetricsObserver.export_json, "self"),
    (MetricsObserver.export_prometheus, "self"),
    (MetricsObserver.export_dict, "self"),
]


@pytest.mark.parametrize(("function", "parameters"), SIGNATURES, ids=lambda value: getattr(value, "__qualname__", ""))
def test_method_signatures_are_those_of_the_reference(function: Any, parameters: str) -> None:
    assert " ".join(inspect.signature(function).parameters) == parameters
    assert inspect.iscoroutinefunction(function) is (function is not ErrorClassifier.classify)


GEMINI: dict[str, Any] = {"model": REQUIRED, "client": REQUIRED, "response_parser": REQUIRED}
CONSTRUCTORS: dict[type, dict[str, Any]] = {
    ParallelBatchProcessor: {
        "config": REQUIRED,
        "post_processor": None,
        "progress_callback": None,
        "error_classifier": None,
        "rate_limit_strategy": None,
        "middlewares": None,
        "observers": None,
    },
    PydanticAIStrategy: {"agent": REQUIRED},
    GeminiStrategy: {**GEMINI, "config": None},
    GeminiCachedStrategy: {
        **GEMINI,
        "cached_content": REQUIRED,
        "cache_ttl_seconds": 3600,
        "cache_refresh_threshold": 0.1,
        "config": None,
    },
    DefaultErrorClassifier: {},
    GeminiErrorClassifier: {},
    MetricsObserver: {},
}


@pytest.mark.parametrize("kind", CONSTRUCTORS, ids=lambda kind: kind.__name__)
def test_constructor_signatures_are_those_of_the_reference(kind: type) -> None:
    found = inspect.signature(kind).parameters
    documented = CONSTRUCTORS[kind]
    assert {name: each.default for name, each in list(found.items())[: len(documented)]} == documented
    assert list(found)[: len(documented)] == list(documented)
    assert all(each.kind is each.KEYWORD_ONLY for each in list(found.values())[len(documented) :])


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (ParallelBatchProcessor, BatchProcessor),
        (PydanticAIStrategy, LLMCallStrategy),
        (GeminiStrategy, LLMCallStrategy),
        (GeminiCachedStrategy, LLMCallStrategy),
        (DefaultErrorClassifier, ErrorClassifier),
        (GeminiErrorClassifier, ErrorClassifier),
        (ExponentialBackoffStrategy, RateLimitStrategy),
        (FixedDelayStrategy, RateLimitStrategy),
        (BaseMiddleware, Middleware),
        (BaseObserver, ProcessorObserver),
        (MetricsObserver, BaseObserver),
    ],
)
def test_classes_have_the_documented_bases(kind: type, base: type) -> None:
    assert issubclass(kind, base)


def test_events_are_those_of_the_reference() -> None:
    assert [event.name for event in ProcessingEvent] == [
        "PROCESSING_STARTED",
        "PROCESSING_COMPLETED",
        "ITEM_STARTED",
        "ITEM_COMPLETED",
        "ITEM_FAILED",
        "RETRY_SCHEDULED",
        "RATE_LIMIT_HIT",
        "WORKER_STARTED",
        "WORKER_STOPPED",
    ]


@pytest.mark.parametrize(
    ("kind", "abstract"),
    [
        (LLMCallStrategy, {"execute"}),
        (ErrorClassifier, {"classify"}),
        (RateLimitStrategy, {"handle_rate_limit"}),
        (ProcessorObserver, {"on_event"}),
        (Middleware, set[str]()),
        (BatchProcessor, {"add_work", "process_all"}),
    ],
)
def test_abstract_methods_are_those_of_the_reference(kind: type, abstract: set[str]) -> None:
    assert kind.__abstractmethods__ == abstract  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  set by ABCMeta


def test_generics_can_be_subscripted_as_documented() -> None:
    for kind, count in ((LLMWorkItem, 3), (WorkItemResult, 2), (BatchResult, 2), (ParallelBatchProcessor, 3)):
        assert kind[(str,) * count]  # pyright: ignore[reportInvalidTypeArguments, reportUnknownArgumentType]  counted above
    assert batch_llm.PostProcessorFunc[str, None]
    assert issubclass(ParallelBatchProcessor, BatchProcessor)
