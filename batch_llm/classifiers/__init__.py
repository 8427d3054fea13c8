"""What errors mean for the next attempt; a provider whose errors need knowing is a new file here."""

from .default import DefaultErrorClassifier
from .gemini import GeminiErrorClassifier

__all__ = ["DefaultErrorClassifier", "GeminiErrorClassifier"]
