"""Strategy for `gemini-direct:` models: calls through google-genai, with a cached context if the job has one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google import genai
from google.genai import types

from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.prompts import cached_context
from batch_llm.strategies.base import LLMCallStrategy
from batch_llm.strategies.blank_text import is_blank
from batch_llm.strategies.gemini import GeminiStrategy
from batch_llm.strategies.gemini_cached import GeminiCachedStrategy
from batch_llm.strategies.output_schema import schema_reader
from batch_llm.strategies.schema_types import resolved

from .clients import HeadersCallback, google_client
from .wrappers import ClientOwningStrategy

# Names of settings in pydantic-ai that differ in google-genai.
_SETTINGS = {"max_tokens": "max_output_tokens"}


def gemini_strategy(
    job: BatchJob, key: str, model: str, on_headers: HeadersCallback | None = None
) -> LLMCallStrategy[Any]:
    """Return a strategy for one Gemini model; the client's retries are disabled, so the engine sees every 429."""
    client, http = google_client(job.config, on_headers, key)
    context = cached_context(job)
    calls = _plain(job, client, model) if context is None else _cached(job, client, model, context)
    return ClientOwningStrategy(calls, http)


def _plain(job: BatchJob, client: genai.Client, model: str) -> LLMCallStrategy[Any]:
    config = types.GenerateContentConfig(system_instruction=job.instructions or None, **_settings(job))
    return GeminiStrategy(model, client, _parser(job), config)


def _cached(job: BatchJob, client: genai.Client, model: str, context: str) -> LLMCallStrategy[Any]:
    # A call with a cache must not contain instructions: they are cached with the context.
    instructions = [types.Content(role="system", parts=[types.Part(text=job.instructions)])] if job.instructions else []
    return GeminiCachedStrategy(
        model,
        client,
        _parser(job),
        cached_content=[*instructions, types.Content(role="user", parts=[types.Part(text=context)])],
        config=types.GenerateContentConfig(**_settings(job)),
    )


def _settings(job: BatchJob) -> dict[str, Any]:
    settings = {_SETTINGS.get(name, name): value for name, value in job.model_settings.items()}
    if job.output_schema is not None:
        settings |= {"response_mime_type": "application/json", "response_json_schema": resolved(job.output_schema)}
    return settings


def _parser(job: BatchJob) -> Callable[[Any], Any]:
    if job.output_schema is None:
        return _text
    read = schema_reader(job.output_schema)
    return lambda response: read(_text(response))


def _text(response: Any) -> str:
    text = response.text
    if not text or is_blank(text):
        raise ValueError("the answer is empty")
    return text
