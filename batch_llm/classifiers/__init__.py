"""Error classifiers: whether and when to retry after an error.

A classifier receives an exception and returns an `ErrorInfo`. Add a provider with special errors as a new file here.
This package imports the package's errors only.
"""

from .default import DefaultErrorClassifier
from .gemini import GeminiErrorClassifier

__all__ = ["DefaultErrorClassifier", "GeminiErrorClassifier"]
