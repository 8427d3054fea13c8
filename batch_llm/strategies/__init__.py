"""How a call is made; a new provider is a new file here."""

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
