"""Live models of both providers against the test servers, and output types for them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import BaseModel, field_validator
from pydantic_ai.models import Model
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider

from batch_llm import ProcessorConfig
from batch_llm.jobs.models.clients import google_client, http_client

from .servers import GeminiServer, OpenAIServer

Server = OpenAIServer | GeminiServer
SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "book",
    "description": "A book.",
    "properties": {"title": {"type": "string"}, "pages": {"type": "integer"}},
    "required": ["title", "pages"],
}


class Book(BaseModel):
    """A book."""

    title: str
    pages: int

    @field_validator("title")
    @classmethod
    def _no_shouting(cls, value: str) -> str:
        if value.isupper():
            raise ValueError("it shouts")
        return value


@asynccontextmanager
async def openai_model(server: OpenAIServer, **profile: Any) -> AsyncGenerator[Model]:
    """Over the client that jobs have."""
    async with http_client(ProcessorConfig(max_workers=10)) as client:
        provider = OpenAIProvider(base_url=server.base_url, api_key="k", http_client=client)
        settings: Any = {"max_retries": 0, "timeout": 10.0}
        of_profile = OpenAIModelProfile(**profile)
        yield OpenAIChatModel("gpt-4.1-mini", provider=provider, settings=settings, profile=of_profile)


@asynccontextmanager
async def gemini_model(server: GeminiServer) -> AsyncGenerator[Model]:
    """Over the client that jobs have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        client, http = google_client(ProcessorConfig(max_workers=10), key="k")
    async with http:
        yield GoogleModel("gemini-2.5-flash", provider=GoogleProvider(client=client), settings={"timeout": 10.0})
    client.close()
