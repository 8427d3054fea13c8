"""Servers for the providers' tests; each test gets its own, and it is gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .servers import GeminiServer, OpenAIServer


@pytest.fixture
def openai_server() -> Iterator[OpenAIServer]:
    """A healthy OpenAI until a test scripts it otherwise."""
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def gemini_server() -> Iterator[GeminiServer]:
    """A healthy Gemini, with a least cache size of ten tokens."""
    with GeminiServer(least_cache_tokens=10) as server:
        yield server
