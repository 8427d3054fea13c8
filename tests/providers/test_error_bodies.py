"""Classification of providers' error bodies with the real SDKs: by status and code, otherwise by text."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anthropic
import httpx
import httpx2
import openai
import pytest
from pydantic_ai.direct import model_request
from pydantic_ai.messages import ModelRequest
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from batch_llm.classifiers import DefaultErrorClassifier
from batch_llm.errors import ErrorInfo
from tests.support.call_outcome import final
from tests.support.provider_error_bodies import ALL, Body, openai_error
from tests.support.servers import OpenAIServer, Reply

Ask = Callable[[], Awaitable[object]]


def classify(error: Exception) -> ErrorInfo:
    return DefaultErrorClassifier().classify(error)


async def wrongly_classified(server: OpenAIServer, ask: Ask) -> list[tuple[str, str, int, Body]]:
    """Request each reply, and return those that get the wrong category."""
    wrong = list[tuple[str, str, int, Body]]()
    for category, status, body in ALL:
        server.script(Reply(status, body))
        with pytest.raises(Exception) as caught:  # noqa: PT011  any client's own
            await ask()
        if (info := classify(caught.value)).category != category:
            wrong.append((info.category, category, status, body))
    return wrong


async def test_openai_sdk_errors_are_classified(openai_server: OpenAIServer) -> None:
    async with openai.AsyncOpenAI(base_url=openai_server.base_url, api_key="k", max_retries=0) as client:
        create = client.chat.completions.create
        ask: Ask = lambda: create(model="gpt", messages=[{"role": "user", "content": "hi"}])  # noqa: E731
        assert await wrongly_classified(openai_server, ask) == []


async def test_error_bodies_are_classified_through_pydantic_ai(openai_server: OpenAIServer) -> None:
    async with httpx2.AsyncClient() as http:
        provider = OpenAIProvider(base_url=openai_server.base_url, api_key="k", http_client=http)
        model = OpenAIChatModel("gpt", provider=provider, settings={"max_retries": 0})
        ask: Ask = lambda: model_request(model, [ModelRequest.user_text_prompt("hi")])  # noqa: E731
        assert await wrongly_classified(openai_server, ask) == []


async def test_anthropic_sdk_errors_are_classified(openai_server: OpenAIServer) -> None:
    async with anthropic.AsyncAnthropic(base_url=openai_server.url, api_key="k", max_retries=0) as client:
        create = client.messages.create
        openai_server.kind = lambda method, path: "chat"
        ask: Ask = lambda: create(model="claude", max_tokens=9, messages=[{"role": "user", "content": "hi"}])  # noqa: E731
        assert await wrongly_classified(openai_server, ask) == []


async def test_error_bodies_are_classified_through_httpx(openai_server: OpenAIServer) -> None:
    async with httpx.AsyncClient() as client:

        async def ask() -> None:
            url = f"{openai_server.base_url}/chat/completions"
            (await client.post(url, json={"messages": []})).raise_for_status()

        assert await wrongly_classified(openai_server, ask) == []


SECONDS = "Rate limit reached on tokens per day (TPD). Please try again in {}."


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("body", "headers", "seconds"),
    [
        (openai_error(SECONDS.format("7h12m12s")), {"retry-after": "25932"}, 25932.0),
        (openai_error(SECONDS.format("7h12m12s")), {}, 25932.0),
        (openai_error(SECONDS.format("9m38.016s")), {}, 578.016),
        (openai_error("Token rate limit: retry after 86400 seconds."), {"retry-after": "86400"}, 86400.0),
        (openai_error("Daily limit reached."), {"x-ratelimit-reset": "{now+7200}"}, 7200.0),
        ({"error": {"message": "Rate limit exceeded: free-models-per-day.", "code": 429, "metadata": {"headers": {
            "X-RateLimit-Reset": "{now+3600}000"}}}}, {}, 3600.0),
        (openai_error("Daily limit reached."), {}, None),
    ],
)  # fmt: skip
async def test_daily_limit_has_the_time_until_its_reset(
    openai_server: OpenAIServer, body: Body, headers: dict[str, str], seconds: float | None
) -> None:
    """It ends the run, and has the time until the reset if the provider reports it."""
    at = {"{now+7200}": str(round(time.time()) + 7200), "{now+3600}000": f"{round(time.time()) + 3600}000"}
    if "metadata" in body["error"]:
        body["error"]["metadata"]["headers"]["X-RateLimit-Reset"] = at["{now+3600}000"]
    openai_server.script(Reply(429, body, {name: at.get(value, value) for name, value in headers.items()}))
    async with openai.AsyncOpenAI(base_url=openai_server.base_url, api_key="k", max_retries=0) as client:
        with pytest.raises(openai.OpenAIError) as caught:
            await client.chat.completions.create(model="gpt", messages=[{"role": "user", "content": "hi"}])
    info = classify(caught.value)
    assert (info.category, info.is_retryable) == ("quota_exhausted", False)
    assert info.resets_in == (seconds if seconds is None else pytest.approx(seconds, abs=5))


@pytest.mark.parametrize(
    ("message", "category"),
    [
        ("Error code: 404 - {'error': {'message': 'The model `gpt-x` does not exist'}}", "model_not_found"),
        ("HTTP 403 Forbidden", "auth"),
        ("HTTP 403: <html><body>blocked</body></html>", "forbidden"),
        ("Rate limit exceeded: free-models-per-day", "quota_exhausted"),
        ("Request failed with status code 409", "server_error"),
        ("the model does not exist in our list, says row 404", "unknown"),
    ],
)
def test_bare_exceptions_are_classified_by_the_quoted_error(message: str, category: str) -> None:
    assert classify(Exception(message)).category == category


def test_a_bedrock_error_is_read_from_its_response() -> None:
    """botocore stores the response as a dict."""

    class ClientError(Exception):
        def __init__(self, code: str, message: str, status: int) -> None:
            super().__init__(message)
            self.response = {
                "Error": {"Code": code, "Message": message},
                "ResponseMetadata": {"HTTPStatusCode": status},
            }

    invalid = ClientError("ValidationException", "The provided model identifier is invalid.", 400)
    assert classify(invalid) == final("model_not_found")
    assert classify(ClientError("ThrottlingException", "Too many requests", 429)).is_rate_limit
    assert classify(ClientError("AccessDeniedException", "no", 403)) == final("auth")
