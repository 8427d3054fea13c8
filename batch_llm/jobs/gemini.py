"""A job's calls straight through google-genai, with the cached context where the job has one."""

from __future__ import annotations

import json
from typing import Any

from google import genai
from google.genai import types

from batch_llm.strategies.base import LLMCallStrategy
from batch_llm.strategies.gemini import GeminiStrategy
from batch_llm.strategies.gemini_cached import GeminiCachedStrategy

from .clients import OwningStrategy
from .job import BatchJob
from .prompts import cached_context
from .schemas import reason_against

# pydantic-ai's names of settings, and google-genai's where they differ.
_SETTINGS = {"max_tokens": "max_output_tokens"}


def gemini_strategy(job: BatchJob, key: str, model: str) -> LLMCallStrategy[Any]:
    """Return a strategy for one Gemini model; the client's own retries are off, so the engine sees every 429."""
    once = types.HttpOptions(retry_options=types.HttpRetryOptions(attempts=1))
    client = genai.Client(api_key=key, http_options=once)
    context = cached_context(job)
    settings: dict[str, Any] = {_SETTINGS.get(name, name): value for name, value in job.model_settings.items()}
    if job.output_schema is not None:
        settings |= {"response_mime_type": "application/json", "response_json_schema": job.output_schema}

    def parse(response: Any) -> Any:
        return _parsed(response, job.output_schema)

    if context is None:
        config = types.GenerateContentConfig(system_instruction=job.instructions or None, **settings)
        plain = GeminiStrategy(model=model, client=client, response_parser=parse, config=config)
        return OwningStrategy(plain, client.aio)
    # A call with a cache must carry no instructions of its own: they are cached with the context.
    instructions = [types.Content(role="system", parts=[types.Part(text=job.instructions)])] if job.instructions else []
    cached = GeminiCachedStrategy(
        model=model,
        client=client,
        response_parser=parse,
        cached_content=[*instructions, types.Content(role="user", parts=[types.Part(text=context)])],
        config=types.GenerateContentConfig(**settings),
    )
    return OwningStrategy(cached, client.aio)


def _parsed(response: Any, schema: dict[str, Any] | None) -> Any:
    text = response.text
    if not text:
        raise ValueError("the answer is empty")
    if schema is None:
        return text
    answer = json.loads(text)
    if reason := reason_against(schema, answer):
        raise ValueError(f"the answer does not fit the schema: {reason}")
    return answer
