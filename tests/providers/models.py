"""Live models of both providers against the servers, and answers to ask them for."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, field_validator
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider

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


def openai_model(server: OpenAIServer, **profile: Any) -> OpenAIChatModel:
    provider = OpenAIProvider(base_url=server.base_url, api_key="k")
    settings: Any = {"max_retries": 0, "timeout": 10.0}
    return OpenAIChatModel("gpt-4.1-mini", provider=provider, settings=settings, profile=OpenAIModelProfile(**profile))


def gemini_model(server: GeminiServer) -> GoogleModel:
    provider = GoogleProvider(base_url=server.url, api_key="k")
    return GoogleModel("gemini-2.5-flash", provider=provider, settings={"timeout": 10.0})
