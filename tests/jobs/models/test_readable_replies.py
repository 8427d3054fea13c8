"""Replies with status 200: an error in the body is an error, and an unexpected field loses no answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from batch_llm.classifiers import DefaultErrorClassifier
from batch_llm.errors import CallFailed, ErrorInfo
from batch_llm.jobs.models.factory import make_strategy
from tests.support.jobs import job
from tests.support.servers import OpenAIServer, Reply

Json = dict[str, Any]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        yield server


async def ask(**settings: Any) -> tuple[Any, dict[str, int]] | tuple[ErrorInfo, str]:
    """Return answer and tokens of one attempt, or the classification and text of its error."""
    strategy = make_strategy(job(model="openai-chat:m", **settings))
    await strategy.prepare()
    try:
        return await strategy.execute("hi", 1, 30)
    except Exception as error:
        cause = error.error if isinstance(error, CallFailed) else error
        return DefaultErrorClassifier().classify(cause), str(cause)
    finally:
        await strategy.cleanup()


def completion(message: Json | None = None, choice: Json | None = None, **fields: Any) -> Json:
    reply_message = {"role": "assistant", "content": "an answer"} | (message or {})
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    choices = [{"index": 0, "finish_reason": "stop", "message": reply_message} | (choice or {})]
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": choices,
        "usage": usage,
    } | fields


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("body", "category", "words"),
    [
        ({"error": {"message": "Provider error", "code": 429, "metadata": {"raw": "slow"}}}, "rate_limit", "slow"),
        ({"error": {"message": "Internal Error", "code": 502}, "user_id": "u"}, "server_error", "Internal"),
        ({"error": {"message": "gone", "code": "429"}}, "rate_limit", "gone"),
        ({"error": "upstream connect error"}, "server_error", "upstream connect error"),
        ({"error": {"message": "Rate limit reached", "type": "rate_limit_error"}}, "rate_limit", "Rate limit reached"),
        ({"object": "error", "message": "The model `x` does not exist.", "code": 404}, "model_not_found", "exist"),
        (
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
            "server_error",
            "Overloaded",
        ),
        (
            {"choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit exceeded"}},
            "rate_limit",
            "1002",
        ),
        ({"error": {"message": "no", "code": "insufficient_quota"}}, "quota_exhausted", "insufficient_quota"),
        ({"error": {"message": "Invalid key", "code": 401}}, "auth", "Invalid key"),
        (
            completion(choice={"finish_reason": "error", "error": {"code": 429, "message": "busy"}}),
            "rate_limit",
            "busy",
        ),
        (
            completion(choice={"finish_reason": "error", "error": {"code": 502, "message": "lost"}}),
            "server_error",
            "lost",
        ),
        (completion(choice={"finish_reason": "error"}), "server_error", "broke off"),
        (completion(choices=[]), "server_error", "no choices"),
        (completion(choices=None), "server_error", "no choices"),
        (completion(choices=[{"index": 0, "finish_reason": "stop"}]), "server_error", "no message"),
        ("<html><body>Back soon</body></html>", "server_error", "Back soon"),
        ("", "server_error", "the reply is empty"),
    ],
)
async def test_error_in_the_body_of_a_200_reply_is_an_error(
    server: OpenAIServer, body: Any, category: str, words: str
) -> None:
    """It is classified and has the provider's text, after one request."""
    server.script(Reply(200, body))
    info, text = await ask()
    assert isinstance(info, ErrorInfo)
    assert (info.category, server.requests) == (category, 1)
    assert words in str(text)


def _without(*names: str) -> Json:
    return {name: value for name, value in completion().items() if name not in names}


USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (completion(choice={"finish_reason": ""}), (10, 5)),
        (completion(choice={"finish_reason": None}), (10, 5)),
        (completion(choice={"index": None}), (10, 5)),
        (completion({"role": None}), (10, 5)),
        (completion({"role": "model"}), (10, 5)),
        (completion({"tool_calls": None, "annotations": {}}), (10, 5)),
        (completion(id=None, object="", model=None, created="1700000000"), (10, 5)),
        (completion(id=7, created=1.5, system_fingerprint=3, service_tier=1), (10, 5)),
        (_without("id", "object", "model", "created"), (10, 5)),
        (completion(usage=USAGE | {"completion_tokens": None, "total_tokens": 12}), (10, 2)),
        (completion(usage={"prompt_tokens": 10.0, "completion_tokens": 5.4, "total_tokens": 15.4}), (10, 5)),
        (completion(usage={"prompt_tokens": "10", "completion_tokens": "5"}), (10, 5)),
        (completion(usage={"input_tokens": 10, "output_tokens": 5}), (10, 5)),
        (completion(usage=USAGE | {"prompt_tokens_details": None}), (10, 5)),
        (completion(usage=USAGE | {"prompt_tokens_details": {"cached_tokens": 3.0}}), (10, 5)),
        (completion(error=None), (10, 5)),
    ],
)
async def test_unexpected_field_loses_no_answer(server: OpenAIServer, body: Json, tokens: tuple[int, int]) -> None:
    """The answer is accepted after one request, and its readable token counts are used."""
    server.script(Reply(200, body))
    answer, usage = await ask()
    assert (answer, server.requests) == ("an answer", 1)
    assert isinstance(usage, dict)
    assert (usage["input_tokens"], usage["output_tokens"]) == tokens


@pytest.mark.sample(2)
@pytest.mark.parametrize("usage", [None, [], "none", {}])
async def test_unreadable_usage_loses_no_answer(server: OpenAIServer, usage: Any) -> None:
    server.script(Reply(200, completion(usage=usage)))
    assert (await ask())[0] == "an answer"


async def test_object_instead_of_json_text_is_accepted(server: OpenAIServer) -> None:
    schema = {"type": "object", "properties": {"kind": {"type": "string"}}, "required": ["kind"]}
    server.script(Reply(200, completion({"content": {"kind": "late"}})))
    assert (await ask(output_schema=schema))[0] == {"kind": "late"}


async def test_ordinary_completion_is_passed_on_unchanged(server: OpenAIServer) -> None:
    body = completion()
    server.script(Reply(200, json.loads(json.dumps(body))))
    assert (await ask())[0] == "an answer"


async def test_refusal_of_the_model_is_in_the_error(server: OpenAIServer) -> None:
    server.script(Reply(200, completion({"content": None, "refusal": "I can't help with that."})))
    info, text = await ask()
    assert isinstance(info, ErrorInfo)
    assert (info.category, text, server.requests) == ("content_filter", "the model refused: I can't help with that.", 1)
