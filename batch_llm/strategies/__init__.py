"""Strategies: one way to call a provider each; add a provider as a new file here.

A strategy receives a prompt and returns an output and its token usage. This package imports the package's errors only;
provider SDKs are imported inside functions.
"""

from .base import LLMCallStrategy, TokenUsage
from .gemini import GeminiStrategy
from .gemini_cached import GeminiCachedStrategy
from .model import ModelStrategy
from .pydantic_ai import PydanticAIStrategy

__all__ = [
    "GeminiCachedStrategy",
    "GeminiStrategy",
    "LLMCallStrategy",
    "ModelStrategy",
    "PydanticAIStrategy",
    "TokenUsage",
]
