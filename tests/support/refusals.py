"""Errors of the providers with their categories, which are the same for all strategies."""

from __future__ import annotations

from batch_llm.errors import ErrorInfo

from .call_outcome import final, retryable
from .servers import CUT, HANG, HTML_502, RESET, GeminiServer, OpenAIServer, Reply

OPENAI: list[tuple[Reply, ErrorInfo]] = [
    (OpenAIServer.rate_limit(7), retryable("rate_limit", 7.0)),
    (OpenAIServer.rate_limit(), retryable("rate_limit")),
    (OpenAIServer.quota(), final("quota_exhausted")),
    (OpenAIServer.overloaded(), retryable("server_error")),
    (OpenAIServer.server_error(), retryable("server_error")),
    (HTML_502, retryable("server_error")),
    (OpenAIServer.bad_key(), final("auth")),
    (OpenAIServer.no_such_model(), final("model_not_found")),
    (OpenAIServer.too_long(), final("invalid_request")),
    (HANG, retryable("timeout")),
    (CUT, retryable("connection")),
    (RESET, retryable("connection")),
]
GEMINI: list[tuple[Reply, ErrorInfo]] = [
    (GeminiServer.rate_limit(22), retryable("rate_limit", 22.0)),
    (GeminiServer.rate_limit(), retryable("rate_limit")),
    (GeminiServer.quota(), final("quota_exhausted")),
    (GeminiServer.overloaded(), retryable("server_error")),
    (GeminiServer.server_error(), retryable("server_error")),
    (HTML_502, retryable("server_error")),
    (GeminiServer.bad_key(), final("auth")),
    (GeminiServer.no_such_model(), final("model_not_found")),
    (GeminiServer.too_long(), final("invalid_request")),
    (HANG, retryable("timeout")),
    (CUT, retryable("connection")),
    (RESET, retryable("connection")),
]
