"""Fixtures of the providers' tests: servers and models, new for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from pydantic_ai.models import Model

from tests.support.provider_models import Server, gemini_model, openai_model
from tests.support.servers import GeminiServer, OpenAIServer


@pytest.fixture
def openai_server() -> Iterator[OpenAIServer]:
    """Start an OpenAI server that gives healthy answers unless a test scripts others."""
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def gemini_server() -> Iterator[GeminiServer]:
    """Start a Gemini server with a minimum cache size of ten tokens."""
    with GeminiServer(least_cache_tokens=10) as server:
        yield server


@pytest.fixture
async def on_openai(openai_server: OpenAIServer) -> AsyncIterator[Model]:
    async with openai_model(openai_server) as model:
        yield model


@pytest.fixture
async def on_gemini(gemini_server: GeminiServer) -> AsyncIterator[Model]:
    async with gemini_model(gemini_server) as model:
        yield model


@pytest.fixture(params=["openai", "gemini"])
def both(
    request: pytest.FixtureRequest,
    openai_server: OpenAIServer,
    gemini_server: GeminiServer,
    on_openai: Model,
    on_gemini: Model,
) -> tuple[Server, Model]:
    return (openai_server, on_openai) if request.param == "openai" else (gemini_server, on_gemini)
