"""A strategy that follows a script, a classifier for its errors, and an observer that records events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from batch_llm import (
    BaseObserver,
    BatchResult,
    ErrorClassifier,
    ErrorInfo,
    LLMCallStrategy,
    LLMWorkItem,
    ParallelBatchProcessor,
    ProcessingEvent,
    ProcessorConfig,
    RateLimitConfig,
    RetryConfig,
)

Item = LLMWorkItem[None, str, Any]
Processor = ParallelBatchProcessor[None, str, Any]
Batch = BatchResult[str, Any]

ONE_TOKEN = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}


class Failure(Exception):
    """Error that contains its own classification."""

    def __init__(self, info: ErrorInfo, text: str = "boom") -> None:
        super().__init__(text)
        self.info = info


def failure(category: str = "server_error", *, retryable: bool = True, wait: float | None = None) -> Failure:
    limited = category == "rate_limit"
    return Failure(ErrorInfo(retryable, is_rate_limit=limited, category=category, suggested_wait=wait))


def rate_limit(wait: float | None = None) -> Failure:
    return failure("rate_limit", wait=wait)


class ByItself(ErrorClassifier):
    """Classifier that reads the classification of a `Failure`; timeouts are retryable, other errors are not."""

    def __init__(self) -> None:
        self.seen: list[Exception] = []

    def classify(self, exception: Exception) -> ErrorInfo:
        self.seen.append(exception)
        if isinstance(exception, Failure):
            return exception.info
        return ErrorInfo(is_retryable=isinstance(exception, TimeoutError), category=type(exception).__name__)


Step = str | BaseException | float
"""What a call does: answer with a text, raise, or first take that many seconds."""


@dataclass(eq=False)
class Scripted(LLMCallStrategy[str]):
    """Strategy that follows one list of steps per call and prompt; the last list repeats."""

    script: Sequence[Sequence[Step]] = (("ok",),)
    calls: list[tuple[float, str, int]] = field(default_factory=list[tuple[float, str, int]])
    ended: list[float] = field(default_factory=list[float])
    running: int = 0
    most: int = 0
    prepared: list[float] = field(default_factory=list[float])
    cleaned: list[float] = field(default_factory=list[float])

    async def prepare(self) -> None:
        assert len(self.prepared) < 100, "prepared again and again"
        self.prepared.append(now())

    async def cleanup(self) -> None:
        self.cleaned.append(now())

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        number = sum(earlier == prompt for _, earlier, _ in self.calls)
        self.calls.append((now(), prompt, attempt))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            for step in self.script[min(number, len(self.script) - 1)]:
                if isinstance(step, BaseException):
                    raise step
                if isinstance(step, str):
                    return step, dict(ONE_TOKEN)
                await asyncio.sleep(step)
            return "ok", dict(ONE_TOKEN)
        finally:
            self.running -= 1
            self.ended.append(now())

    @property
    def starts(self) -> list[float]:
        return [start for start, _, _ in self.calls]


class Notes(BaseObserver):
    """Observer that records all events."""

    def __init__(self) -> None:
        self.events: list[tuple[ProcessingEvent, dict[str, Any]]] = []

    async def on_event(self, event: ProcessingEvent, data: dict[str, Any]) -> None:
        self.events.append((event, data))

    def of(self, *kinds: ProcessingEvent) -> list[dict[str, Any]]:
        return [data for event, data in self.events if event in kinds]

    @property
    def kinds(self) -> list[ProcessingEvent]:
        return [event for event, _ in self.events]


def now() -> float:
    return asyncio.get_running_loop().time()


def items(count: int, strategy: LLMCallStrategy[str]) -> list[Item]:
    return [Item(f"item-{number}", strategy, f"prompt {number}") for number in range(count)]


def config(
    workers: int = 5,
    *,
    timeout: float = 120.0,
    retry: RetryConfig | None = None,
    rate_limit: RateLimitConfig | None = None,
    queue: int = 0,
    dry_run: bool = False,
) -> ProcessorConfig:
    """Return a configuration without jitter, so that times are exact."""
    return ProcessorConfig(
        max_workers=workers,
        timeout_per_item=timeout,
        retry=retry or RetryConfig(jitter=False),
        rate_limit=rate_limit or RateLimitConfig(),
        max_queue_size=queue,
        dry_run=dry_run,
    )


def processor(settings: ProcessorConfig | None = None, **arguments: Any) -> Processor:
    arguments.setdefault("error_classifier", ByItself())
    return Processor(settings or config(), **arguments)


async def process(work: Sequence[Item], settings: ProcessorConfig | None = None, **arguments: Any) -> Batch:
    """Process `work` in one run."""
    engine = processor(settings, **arguments)
    for item in work:
        await engine.add_work(item)
    return await engine.process_all()
