"""`GeminiStrategy` over HTTP: categories, waits, requests, tokens and safety ratings."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from google import genai
from google.genai.types import GenerateContentConfig, HttpOptions, HttpRetryOptions
from pydantic import BaseModel

from batch_llm.errors import ErrorInfo
from batch_llm.strategies import GeminiStrategy
from tests.support.call_outcome import attempt, final, retryable
from tests.support.servers import CUT, HANG, HTML_502, RESET, GeminiServer, Reply


class Book(BaseModel):
    """An answer."""

    title: str
    pages: int


@pytest.fixture
async def client(gemini_server: GeminiServer) -> AsyncIterator[genai.Client]:
    """Make a client without retries of its own, as users should."""
    options = HttpOptions(base_url=gemini_server.url, timeout=1000, retry_options=HttpRetryOptions(attempts=1))
    made = genai.Client(api_key="k", http_options=options)
    yield made
    await made.aio.aclose()
    made.close()


def text(response: Any) -> str:
    return response.text


async def test_answer_has_output_tokens_and_ratings(gemini_server: GeminiServer, client: genai.Client) -> None:
    """Output, tokens and ratings; thoughts are billed as output."""
    gemini_server.thoughts = 5
    outcome = await attempt(GeminiStrategy("gemini-2.5-flash", client, text))
    assert outcome.output == "one two three"
    assert outcome.tokens == {"input_tokens": 3, "output_tokens": 8, "total_tokens": 11}
    assert outcome.ratings == {"HARM_CATEGORY_HARASSMENT": "NEGLIGIBLE"}


async def test_structured_output_is_parsed(client: genai.Client) -> None:
    """The config is sent, and the parser makes the output."""
    config = GenerateContentConfig(response_mime_type="application/json", response_schema=Book, temperature=0)
    strategy = GeminiStrategy("gemini-2.5-flash", client, lambda r: Book.model_validate_json(r.text), config)
    assert (await attempt(strategy)).output == Book(title="one two three", pages=0)


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("reply", "info"),
    [
        (GeminiServer.rate_limit(22), retryable("rate_limit", 22.0)),
        (GeminiServer.rate_limit(0.5), retryable("rate_limit", 0.5)),
        (GeminiServer.rate_limit(), retryable("rate_limit")),
        (GeminiServer.quota(), final("quota_exhausted")),
        (GeminiServer.error(400, "Please enable billing.", name="FAILED_PRECONDITION"), final("quota_exhausted")),
        (GeminiServer.overloaded(), retryable("server_error")),
        (GeminiServer.server_error(), retryable("server_error")),
        (HTML_502, retryable("server_error")),
        (GeminiServer.bad_key(), final("auth")),
        (GeminiServer.error(403, "The caller does not have permission"), final("auth")),
        (GeminiServer.no_such_model(), final("model_not_found")),
        (GeminiServer.too_long(), final("invalid_request")),
        (HANG, retryable("timeout")),
        (CUT, retryable("connection")),
        (RESET, retryable("connection")),
    ],
)
async def test_errors_are_classified(
    gemini_server: GeminiServer, client: genai.Client, reply: Reply, info: ErrorInfo
) -> None:
    """A failed call costs one request and no tokens."""
    gemini_server.script(reply)
    outcome = await attempt(GeminiStrategy("gemini-2.5-flash", client, text))
    assert (outcome.info, gemini_server.requests, outcome.spent) == (info, 1, (0, 0))


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("reply", "info"),
    [
        (GeminiServer.rate_limit(22), retryable("rate_limit", 22.0)),
        (HANG, retryable("timeout")),
        (CUT, retryable("connection")),
        (RESET, retryable("connection")),
    ],
)
async def test_errors_over_httpx_are_classified(gemini_server: GeminiServer, reply: Reply, info: ErrorInfo) -> None:
    """google-genai's other transport, which it uses without aiohttp, has the same categories."""
    gemini_server.script(reply)
    limit = 200 if reply is HANG else 10_000
    async with httpx.AsyncClient() as transport:
        options = HttpOptions(
            base_url=gemini_server.url,
            timeout=limit,
            retry_options=HttpRetryOptions(attempts=1),
            httpx_async_client=transport,
        )
        client = genai.Client(api_key="k", http_options=options)
        outcome = await attempt(GeminiStrategy("gemini-2.5-flash", client, text))
        client.close()
    assert (outcome.info, gemini_server.requests, outcome.spent) == (info, 1, (0, 0))


async def test_blocked_prompts_and_answers_are_content_filter(
    gemini_server: GeminiServer, client: genai.Client
) -> None:
    """A blocked prompt and a stopped answer are `content_filter`, with their tokens and ratings."""
    for reply, spent in ((gemini_server.blocked(), (3, 0)), (gemini_server.safety(), (3, 3))):
        gemini_server.script(reply)
        outcome = await attempt(GeminiStrategy("gemini-2.5-flash", client, text))
        assert (outcome.info, outcome.spent) == (final("content_filter"), spent)
        assert outcome.ratings == {"HARM_CATEGORY_DANGEROUS_CONTENT": "HIGH"}


REASONS = ["SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY"]


@pytest.mark.sample(2)
@pytest.mark.parametrize("reason", REASONS)
async def test_answer_stopped_for_any_reason_is_content_filter(
    gemini_server: GeminiServer, client: genai.Client, reason: str
) -> None:
    """An incomplete answer is a failure, whatever the reason, and its tokens are counted."""
    gemini_server.script(gemini_server.text("Half an ans", finish_reason=reason))
    outcome = await attempt(GeminiStrategy("gemini-2.5-flash", client, text))
    assert (outcome.info, outcome.spent) == (final("content_filter"), (3, 3))


async def test_tokens_of_tools_count_as_input(gemini_server: GeminiServer, client: genai.Client) -> None:
    """Tokens that Gemini's tools add to the prompt are billed as input; missing usage is estimated."""
    parts = [{"content": {"role": "model", "parts": [{"text": "ok"}]}, "finishReason": "STOP"}]
    usage = {"promptTokenCount": 3, "toolUsePromptTokenCount": 40, "candidatesTokenCount": 2, "totalTokenCount": 45}
    gemini_server.script(Reply(body={"candidates": parts, "usageMetadata": usage}), Reply(body={"candidates": parts}))
    strategy = GeminiStrategy("gemini-2.5-flash", client, text)
    outcomes = [await attempt(strategy) for _ in range(2)]
    assert outcomes[0].tokens == {"input_tokens": 43, "output_tokens": 2, "total_tokens": 45}
    assert (outcomes[1].output, outcomes[1].ratings) == ("ok", None)
    assert outcomes[1].tokens["estimated_tokens"] == outcomes[1].tokens["total_tokens"] > 0


async def test_unparseable_answers_are_validation_failures(gemini_server: GeminiServer, client: genai.Client) -> None:
    """Invalid JSON and an empty answer are `validation` failures with tokens; the parser never gets an empty answer."""
    strategy = GeminiStrategy("gemini-2.5-flash", client, lambda response: json.loads(response.text))
    for reply, spent in ((gemini_server.text("{"), (3, 1)), (gemini_server.text(None), (3, 0))):
        gemini_server.script(reply)
        outcome = await attempt(strategy)
        assert (outcome.info, outcome.spent) == (retryable("validation"), spent)


async def test_bug_in_the_parser_is_a_programming_error(client: genai.Client) -> None:
    """A `TypeError` in the parser is a programming error, which is not retried but has tokens."""
    outcome = await attempt(GeminiStrategy("gemini-2.5-flash", client, lambda response: response.text + 1))
    assert (outcome.info, outcome.spent) == (final("programming"), (3, 3))


async def test_parser_gets_answers_that_end_at_the_token_limit(
    gemini_server: GeminiServer, client: genai.Client
) -> None:
    """An answer that ends at the token limit reaches the parser with its finish reason."""
    gemini_server.script(gemini_server.max_tokens())
    strategy = GeminiStrategy("gemini-2.5-flash", client, lambda r: r.candidates[0].finish_reason.name)
    assert (await attempt(strategy)).output == "MAX_TOKENS"
