"""Public names are those of the reference, and importing them is cheap."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import batch_llm

DOCUMENTED = {
    "BaseMiddleware",
    "BatchProcessor",
    "BatchResult",
    "DefaultErrorClassifier",
    "ErrorClassifier",
    "ErrorInfo",
    "ExponentialBackoffStrategy",
    "FixedDelayStrategy",
    "GeminiCachedStrategy",
    "GeminiErrorClassifier",
    "GeminiStrategy",
    "LLMCallStrategy",
    "LLMWorkItem",
    "MetricsObserver",
    "Middleware",
    "ParallelBatchProcessor",
    "PostProcessorFunc",
    "ProcessingEvent",
    "ProcessorConfig",
    "ProcessorObserver",
    "ProgressCallbackFunc",
    "PydanticAIStrategy",
    "RateLimitConfig",
    "RateLimitStrategy",
    "RetryConfig",
    "WorkItemResult",
}
ADDED = {
    "AttemptTimedOut",
    "BaseObserver",
    "BatchLLMError",
    "CallCancelled",
    "CallFailed",
    "ContentFiltered",
    "Governor",
    "JobError",
    "Limits",
    "ModelStrategy",
    "RequestTooLarge",
    "RunStopped",
    "TokenUsage",
}
HEAVY = ("prefect", "openai", "google.genai", "pydantic_ai", "anthropic", "duckdb", "fsspec", "pydantic", "httpx")


def test_all_has_the_names_of_the_reference_and_the_additions() -> None:
    assert set(batch_llm.__all__) == DOCUMENTED | ADDED


def test_all_is_sorted_without_duplicates() -> None:
    assert list(batch_llm.__all__) == sorted(set(batch_llm.__all__))


@pytest.mark.parametrize("name", batch_llm.__all__)
def test_every_public_name_exists_and_has_a_docstring(name: str) -> None:
    thing = getattr(batch_llm, name)
    if inspect.isclass(thing):
        assert thing.__doc__
        assert not thing.__doc__.startswith(f"{name}("), "a generated docstring says nothing"


def test_import_loads_neither_prefect_nor_an_sdk() -> None:
    program = f"import sys, batch_llm; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_processor_loads_no_sdk() -> None:
    program = (
        "import sys; from batch_llm import *; ParallelBatchProcessor(ProcessorConfig()); "
        f"print(*[name for name in {HEAVY!r} if name in sys.modules and name != 'pydantic'])"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
