"""Classification of errors of SDKs and HTTP libraries over real HTTP, without the SDKs' own retries."""

from __future__ import annotations

import socket
from typing import Any, cast

import aiohttp
import anthropic
import httpx
import httpx2
import openai
import pytest
from google import genai
from google.genai.types import HttpOptions, HttpRetryOptions
from pydantic_ai import Agent
from pydantic_ai.models import Model
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider

from batch_llm import GeminiStrategy
from batch_llm.classifiers import DefaultErrorClassifier
from batch_llm.errors import ErrorInfo
from tests.support.call_outcome import final, patience, retryable
from tests.support.servers import CUT, HANG, HTML_502, RESET, LoopbackServer, OpenAIServer, Reply


def classify(error: Exception) -> ErrorInfo:
    return DefaultErrorClassifier().classify(error)


OPENAI = [
    (OpenAIServer.rate_limit(7), retryable("rate_limit", 7.0)),
    (OpenAIServer.rate_limit(), retryable("rate_limit")),
    (OpenAIServer.quota(), final("quota_exhausted")),
    (OpenAIServer.overloaded(retry_after="2"), retryable("server_error", 2.0)),
    (OpenAIServer.server_error(), retryable("server_error")),
    (HTML_502, retryable("server_error")),
    (OpenAIServer.bad_key(), final("auth")),
    (OpenAIServer.no_such_model(), final("model_not_found")),
    (OpenAIServer.too_long(), final("invalid_request")),
    (OpenAIServer.error(418, "Not now.", None), final("invalid_request")),
    (OpenAIServer.error(418, "Not now.", None, retry_after="5"), retryable("server_error", 5.0)),
    (OpenAIServer.error(400, "Not now.", None, retry_after_ms="500"), retryable("server_error", 0.5)),
    (OpenAIServer.error(400, "The prompt was filtered.", "content_filter"), final("content_filter")),
    (HANG, retryable("timeout")),
    (CUT, retryable("connection")),
    (RESET, retryable("connection")),
]


@pytest.mark.sample(4)
@pytest.mark.parametrize(("reply", "info"), OPENAI)
async def test_openai_sdk_errors_are_classified(openai_server: OpenAIServer, reply: Reply, info: ErrorInfo) -> None:
    """The OpenAI SDK's errors, over HTTP, with its own retries off: one request each."""
    openai_server.script(reply)
    limit = patience(reply)
    async with openai.AsyncOpenAI(base_url=openai_server.base_url, api_key="k", max_retries=0, timeout=limit) as client:
        with pytest.raises(openai.OpenAIError) as caught:
            await client.chat.completions.create(model="gpt", messages=[{"role": "user", "content": "hi"}])
    assert classify(caught.value) == info
    assert openai_server.requests == 1


def _anthropic(status: int, kind: str, **headers: str) -> Reply:
    return Reply(status, {"type": "error", "error": {"type": kind, "message": "no"}}, headers)


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("reply", "info"),
    [
        (_anthropic(429, "rate_limit_error", **{"retry-after": "9"}), retryable("rate_limit", 9.0)),
        (_anthropic(429, "rate_limit_error", **{"retry-after-ms": "1500"}), retryable("rate_limit", 1.5)),
        (_anthropic(402, "billing_error"), final("quota_exhausted")),
        (_anthropic(400, "billing_error"), final("quota_exhausted")),
        (_anthropic(529, "overloaded_error"), retryable("server_error")),
        (_anthropic(401, "authentication_error"), final("auth")),
        (HANG, retryable("timeout")),
        (RESET, retryable("connection")),
    ],
)
async def test_anthropic_sdk_errors_are_classified(reply: Reply, info: ErrorInfo) -> None:
    """Anthropic's errors, over HTTP."""
    with LoopbackServer() as server:
        server.script(reply)
        limit = patience(reply)
        async with anthropic.AsyncAnthropic(base_url=server.url, api_key="k", max_retries=0, timeout=limit) as client:
            with pytest.raises(anthropic.AnthropicError) as caught:
                await client.messages.create(model="claude", max_tokens=9, messages=[{"role": "user", "content": "hi"}])
    assert classify(caught.value) == info


TRANSPORT = [
    (Reply(429, {}, {"Retry-After": "5"}), retryable("rate_limit", 5.0)),
    (Reply(503, {}), retryable("server_error")),
    (HANG, retryable("timeout")),
    (CUT, retryable("connection")),
    (RESET, retryable("connection")),
]


@pytest.mark.sample(4)
@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize(("reply", "info"), TRANSPORT)
async def test_errors_of_httpx_and_httpx2_are_classified(library: Any, reply: Reply, info: ErrorInfo) -> None:
    """httpx and its fork share their names and their categories."""
    with LoopbackServer() as server:
        server.script(reply)
        async with library.AsyncClient(timeout=patience(reply)) as client:
            with pytest.raises(library.HTTPError) as caught:
                (await client.get(server.url)).raise_for_status()
    assert classify(caught.value) == info


@pytest.mark.parametrize(("reply", "info"), [*TRANSPORT, (Reply(200, "<html>"), retryable("server_error"))])
async def test_errors_of_aiohttp_are_classified(reply: Reply, info: ErrorInfo) -> None:
    """aiohttp's errors; an HTML page instead of JSON comes from a proxy in between."""
    limit = aiohttp.ClientTimeout(sock_read=patience(reply))
    with LoopbackServer() as server:
        server.script(reply)
        async with aiohttp.ClientSession(raise_for_status=True, timeout=limit) as session:
            with pytest.raises(aiohttp.ClientError) as caught:
                await (await session.post(server.url)).json()
    assert classify(caught.value) == info


async def test_refused_connection_is_a_connection_error() -> None:
    """The error of every library is a `connection` if no server listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    question: Any = {"model": "gpt", "messages": [{"role": "user", "content": "hi"}]}
    options = HttpOptions(base_url=url, retry_options=HttpRetryOptions(attempts=1))
    google = genai.Client(api_key="k", http_options=options)
    agents = [Agent(model) for model in models_at(url)]
    async with (
        httpx.AsyncClient() as client,
        httpx2.AsyncClient() as client2,
        aiohttp.ClientSession() as session,
        openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as sdk,
        agents[0],
        agents[1],
    ):
        asks: list[Any] = [client.get(url), client2.get(url), session.get(url), sdk.chat.completions.create(**question)]
        asks += [GeminiStrategy("gemini", google, str).execute("hi", 1, 1), *(agent.run("hi") for agent in agents)]
        for ask in asks:
            with pytest.raises(Exception) as caught:  # noqa: PT011  any library's own
                await ask
            assert classify(caught.value) == retryable("connection")
    await google.aio.aclose()
    google.close()


def models_at(url: str) -> list[Model]:
    return [
        OpenAIChatModel(
            "gpt", provider=OpenAIProvider(base_url=url, api_key="k"), settings=cast(Any, {"max_retries": 0})
        ),
        GoogleModel("gemini-2.5-flash", provider=GoogleProvider(base_url=url, api_key="k")),
    ]
