"""batch-llm: run LLM calls over thousands to millions of documents.

Example:
    strategy = ModelStrategy(OpenAIChatModel("gpt-6-luna"), output_type=Summary)
    async with ParallelBatchProcessor(ProcessorConfig(max_workers=20)) as processor:
        for number, text in enumerate(texts):
            await processor.add_work(LLMWorkItem(item_id=str(number), strategy=strategy, prompt=text))
        result = await processor.process_all()
"""

from .classifiers import DefaultErrorClassifier, GeminiErrorClassifier
from .config import Limits, ProcessorConfig, RateLimitConfig, RetryConfig
from .errors import (
    AttemptTimedOut,
    BatchLLMError,
    CallCancelled,
    CallFailed,
    ContentFiltered,
    ErrorClassifier,
    ErrorInfo,
    JobError,
    RequestTooLarge,
    RunStopped,
)
from .items import BatchResult, LLMWorkItem, PostProcessorFunc, ProgressCallbackFunc, WorkItemResult
from .middleware import BaseMiddleware, Middleware
from .observers import BaseObserver, MetricsObserver, ProcessingEvent, ProcessorObserver
from .pacing.governor import Governor
from .processor import BatchProcessor, ParallelBatchProcessor
from .rate_limit import ExponentialBackoffStrategy, FixedDelayStrategy, RateLimitStrategy
from .strategies import (
    GeminiCachedStrategy,
    GeminiStrategy,
    LLMCallStrategy,
    ModelStrategy,
    PydanticAIStrategy,
    TokenUsage,
)

__all__ = [
    "AttemptTimedOut",
    "BaseMiddleware",
    "BaseObserver",
    "BatchLLMError",
    "BatchProcessor",
    "BatchResult",
    "CallCancelled",
    "CallFailed",
    "ContentFiltered",
    "DefaultErrorClassifier",
    "ErrorClassifier",
    "ErrorInfo",
    "ExponentialBackoffStrategy",
    "FixedDelayStrategy",
    "GeminiCachedStrategy",
    "GeminiErrorClassifier",
    "GeminiStrategy",
    "Governor",
    "JobError",
    "LLMCallStrategy",
    "LLMWorkItem",
    "Limits",
    "MetricsObserver",
    "Middleware",
    "ModelStrategy",
    "ParallelBatchProcessor",
    "PostProcessorFunc",
    "ProcessingEvent",
    "ProcessorConfig",
    "ProcessorObserver",
    "ProgressCallbackFunc",
    "PydanticAIStrategy",
    "RateLimitConfig",
    "RateLimitStrategy",
    "RequestTooLarge",
    "RetryConfig",
    "RunStopped",
    "TokenUsage",
    "WorkItemResult",
]
