"""How a call is made; a new provider is a new file here."""

from .base import LLMCallStrategy, TokenUsage
from .pydantic_ai import PydanticAIStrategy

__all__ = ["LLMCallStrategy", "PydanticAIStrategy", "TokenUsage"]
