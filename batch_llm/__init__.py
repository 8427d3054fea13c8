"""batch-llm: LLM calls over thousands to millions of documents."""

from .config import ProcessorConfig, RateLimitConfig, RetryConfig
from .errors import (
    AttemptTimedOut,
    BatchLLMError,
    CallCancelled,
    CallFailed,
    ErrorClassifier,
    ErrorInfo,
    JobError,
)
from .items import BatchResult, LLMWorkItem, PostProcessorFunc, ProgressCallbackFunc, WorkItemResult
from .middleware import BaseMiddleware, Middleware
from .observers import BaseObserver, MetricsObserver, ProcessingEvent, ProcessorObserver
from .processor import BatchProcessor, ParallelBatchProcessor
from .rate_limit import ExponentialBackoffStrategy, FixedDelayStrategy, RateLimitStrategy
from .strategies.base import LLMCallStrategy, TokenUsage

__all__ = [
    "AttemptTimedOut",
    "BaseMiddleware",
    "BaseObserver",
    "BatchLLMError",
    "BatchProcessor",
    "BatchResult",
    "CallCancelled",
    "CallFailed",
    "ErrorClassifier",
    "ErrorInfo",
    "ExponentialBackoffStrategy",
    "FixedDelayStrategy",
    "JobError",
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
    "RateLimitConfig",
    "RateLimitStrategy",
    "RetryConfig",
    "TokenUsage",
    "WorkItemResult",
]
