"""Outcome of one attempt: the answer or the classified error, and its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from batch_llm.classifiers import DefaultErrorClassifier
from batch_llm.errors import CallFailed, ErrorInfo
from batch_llm.strategies.base import LLMCallStrategy, TokenUsage

from .servers import HANG, Reply


@dataclass(frozen=True)
class Outcome:
    """Outcome of one attempt as the engine sees it; `info` is None for a success."""

    output: Any
    tokens: dict[str, int]
    info: ErrorInfo | None

    @property
    def spent(self) -> tuple[int, int]:
        """Input and output tokens."""
        return self.tokens.get("input_tokens", 0), self.tokens.get("output_tokens", 0)

    @property
    def ratings(self) -> dict[str, str] | None:
        """Gemini's safety ratings."""
        return self.tokens.safety_ratings if isinstance(self.tokens, TokenUsage) else None


async def attempt(strategy: LLMCallStrategy[Any], prompt: str = "one two three") -> Outcome:
    """Make one attempt and return its outcome."""
    try:
        output, tokens = await strategy.execute(prompt, 1, 30.0)
    except CallFailed as failed:
        return Outcome(None, failed.token_usage, DefaultErrorClassifier().classify(failed.error))
    except Exception as error:
        return Outcome(None, {}, DefaultErrorClassifier().classify(error))
    return Outcome(output, tokens, None)


def retryable(category: str, wait: float | None = None) -> ErrorInfo:
    """Return the classification of a retryable error."""
    return ErrorInfo(True, category == "rate_limit", category, wait)


def final(category: str) -> ErrorInfo:
    """Return the classification of an error that is not retryable."""
    return ErrorInfo(False, False, category)


def patience(reply: Reply) -> float:
    """Return the timeout for a reply: short if it never comes, otherwise long enough for a busy machine."""
    return 0.2 if reply is HANG else 10.0
