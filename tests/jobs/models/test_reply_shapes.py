"""Replies with status 200 of any shape, through each provider's client: errors are errors, and no answer is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider

from batch_llm import ModelStrategy, ProcessorConfig, PydanticAIStrategy
from batch_llm.classifiers import DefaultErrorClassifier
from batch_llm.errors import CallFailed
from batch_llm.jobs.models.clients import http_client
from batch_llm.jobs.models.factory import make_strategy
from tests.support.jobs import job
from tests.support.loopback import LoopbackServer, Reply

Json = dict[str, Any]

MODELS = {
    "chat": "openai-chat:gpt-4o",
    "responses": "openai-responses:gpt-4o",
    "messages": "anthropic:claude-haiku-4-5",
    "google": "google:gemini-2.5-flash",
    "direct": "gemini-direct:gemini-2.5-flash",
}
EVERY_MODEL = pytest.mark.parametrize("api", list(MODELS))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackServer]:
    with LoopbackServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        for name in ("ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL"):
            monkeypatch.setenv(name, server.url)
        for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY"):
            monkeypatch.setenv(name, "some-key-of-mine")
        yield server


async def outcomes(server: LoopbackServer, api: str, *replies: Reply, **settings: Any) -> list[tuple[str, str, Any]]:
    """Return category, text and tokens of one attempt for each reply; the category of an answer is "answer"."""
    strategy = make_strategy(job(model=MODELS[api], **settings))
    await strategy.prepare()
    found: list[tuple[str, str, Any]] = []
    try:
        for reply in replies:
            server.script(reply)  # another request gets a reply without an answer
            try:
                answer, tokens = await strategy.execute("hi", 1, 30)
                found.append(("answer", answer, tokens))
            except Exception as error:
                cause = error.error if isinstance(error, CallFailed) else error
                tokens = error.token_usage if isinstance(error, CallFailed) else {}
                found.append((DefaultErrorClassifier().classify(cause).category, str(cause), tokens))
    finally:
        await strategy.cleanup()
    return found


UNUSABLE = {
    "{}": "server_error",
    "[]": "server_error",
    "null": "server_error",
    "NaN": "server_error",
    "true": "server_error",
    '"ok"': "server_error",
    "Service busy": "server_error",
    "Too many requests, slow down": "rate_limit",
    '{"id": "x", "choi': "server_error",
    '{"text": "429 Too Many Requests': "server_error",  # an answer that was cut off
    'data: {"choices": []}\n\ndata: [DONE]\n\n': "server_error",
    '{"message": "rate limit exceeded"}': "rate_limit",
    '{"code": 429, "msg": "too fast"}': "rate_limit",
    '{"status": "error", "message": "overloaded"}': "server_error",
    '{"type": "about:blank", "title": "Too Many Requests", "status": 429}': "rate_limit",
    '{"fault": {"faultstring": "Quota of the minute", "detail": {"errorcode": "429"}}}': "rate_limit",
    '[{"error": {"code": 429, "message": "Resource exhausted"}}]': "rate_limit",
    '{"error": {"code": "429"}}': "rate_limit",
    '{"x": ' + "[" * 100_000 + "]" * 100_000 + "}": "server_error",
}


@EVERY_MODEL
async def test_body_that_is_no_answer_is_an_error_of_the_server(server: LoopbackServer, api: str) -> None:
    """It is retried after a wait, and never reported as a bug of this program or as an invalid answer."""
    found = await outcomes(server, api, *(Reply(200, body) for body in UNUSABLE))
    assert [(body[:60], category) for body, (category, _, _) in zip(UNUSABLE, found, strict=True)] == [
        (body[:60], category) for body, category in UNUSABLE.items()
    ]


@EVERY_MODEL
async def test_status_beside_200_changes_nothing(server: LoopbackServer, api: str) -> None:
    limited: Json = {"error": {"code": 429, "message": "slow"}}
    found = await outcomes(server, api, Reply(201, limited), Reply(202, "{}"), Reply(203, body(api)))
    assert [category for category, _, _ in found] == ["rate_limit", "server_error", "answer"]


def body(api: str, **fields: Any) -> Json:
    """Return a whole reply with "an answer", 10 input and 5 output tokens; `fields` replace fields of the reply."""
    tokens = {"input_tokens": 10, "output_tokens": 5}
    match api:
        case "chat":
            message = {"role": "assistant", "content": "an answer"}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            made: Json = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
            made["usage"] = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        case "responses":
            made = {"id": "r", "object": "response", "created_at": 1, "model": "m", "status": "completed"}
            made |= {"parallel_tool_calls": False, "tool_choice": "auto", "tools": []}
            made |= {"output": [item()], "usage": {**tokens, "total_tokens": 15}}
        case "messages":
            made = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
            made |= {"content": [{"type": "text", "text": "an answer"}], "usage": tokens}
        case _:
            content = {"role": "model", "parts": [{"text": "an answer"}]}
            made = {"candidates": [{"content": content, "finishReason": "STOP"}], "modelVersion": "m"}
            made["usageMetadata"] = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
    return made | fields


def item(**fields: Any) -> Json:
    """Return an item of the Responses API."""
    content: list[Json] = [{"type": "output_text", "text": "an answer", "annotations": []}]
    return {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": content} | fields


def choice(message: Any = None, **fields: Any) -> Json:
    """Return the field `choices` of a completion."""
    whole: Json = {"role": "assistant", "content": "an answer", **(message or {})}
    return {"choices": [{"index": 0, "finish_reason": "stop", "message": whole} | fields]}


TEXT = {"type": "text", "text": "an answer"}
ANSWERS: list[tuple[str, Json]] = [
    ("chat", {"choices": choice()["choices"][0]}),
    ("chat", {"choices": [None, *choice()["choices"]]}),
    ("chat", choice({"content": [{"type": "output_text", "text": "an answer"}]})),
    ("chat", choice({"tool_calls": [None]})),
    ("chat", choice({"tool_calls": "none"})),
    ("chat", choice({"tool_calls": [{"id": "c", "function": {"name": None}}]})),
    ("chat", choice({"annotations": [{"x": 1}], "audio": {"id": 1}}, logprobs={"content": [{"token": 1}]})),
    ("chat", choice(message={}) | {"created": 10**20}),
    ("chat", {"choices": [{"text": "an answer"}]}),
    ("chat", {"choices": [{"message": "an answer"}]}),
    ("chat", {"choices": [{"delta": {"content": "an answer"}}]}),
    ("responses", {"output": "an answer"}),
    ("responses", {"output": [], "output_text": "an answer"}),
    ("responses", {"output": [item(content="an answer")]}),
    ("responses", {"output": [item(content=[{"type": "output_text", "text": "an answer"}])]}),
    ("responses", {"output": [item(content=[{"type": "text", "text": "an answer", "annotations": None}])]}),
    ("responses", {"output": [{"type": "some_new_call"}, {"id": "r"}, None, item(id=None, role=None)]}),
    ("responses", {"output": [{"id": "r", "type": "reasoning", "summary": None}, item()]}),
    ("responses", {"created_at": "today"}),
    ("messages", {"content": "an answer"}),
    ("messages", {"content": [None, {"type": "some_new_block"}, {"type": "text", "text": None}, TEXT]}),
    ("messages", {"content": [{"text": "an answer"}], "type": None, "role": None}),
    ("messages", {"stop_reason": None}),
]


@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
async def test_odd_field_loses_no_answer(server: LoopbackServer, api: str) -> None:
    """The answer and its tokens are used after one request."""
    bodies = [fields for name, fields in ANSWERS if name == api]
    found = await outcomes(server, api, *(Reply(200, body(api, **fields)) for fields in bodies))
    wanted = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    assert [(fields, *one) for fields, one in zip(bodies, found, strict=True)] == [
        (fields, "answer", "an answer", wanted) for fields in bodies
    ]


CHAT = {"prompt_tokens": 10, "completion_tokens": 5}
TOKENS = {"input_tokens": 10, "output_tokens": 5}
GEMINI = {"promptTokenCount": 10, "candidatesTokenCount": 5}
USAGES: dict[str, list[Json]] = {
    "chat": [
        CHAT | {"prompt_tokens_details": [1], "completion_tokens_details": "x"},
        CHAT | {"prompt_tokens_details": {"cached_tokens": {"x": 1}}},
    ],
    "responses": [TOKENS | {"input_tokens_details": [1], "output_tokens_details": "x"}],
    "messages": [
        TOKENS | {"cache_creation": "x", "server_tool_use": [1], "output_tokens_details": 5},
        TOKENS | {"iterations": "x"},
        TOKENS | {"iterations": [None]},
    ],
    "google": [GEMINI | {"promptTokensDetails": "x"}, GEMINI | {"candidatesTokensDetails": [None]}],
    "direct": [GEMINI | {"promptTokensDetails": "x"}, GEMINI | {"candidatesTokensDetails": [None]}],
}


@EVERY_MODEL
async def test_odd_part_of_the_usage_loses_no_answer(server: LoopbackServer, api: str) -> None:
    name = "usageMetadata" if api in ("google", "direct") else "usage"
    found = await outcomes(server, api, *(Reply(200, body(api, **{name: usage})) for usage in USAGES[api]))
    assert [(usage, *one[:2]) for usage, one in zip(USAGES[api], found, strict=True)] == [
        (usage, "answer", "an answer") for usage in USAGES[api]
    ]
    assert {(tokens["input_tokens"], tokens["output_tokens"]) for _, _, tokens in found} == {(10, 5)}


async def test_bytes_that_are_not_utf8_lose_no_answer(server: LoopbackServer) -> None:
    """Each such byte is replaced by the replacement character."""
    text = json.dumps(body("chat")).replace("an answer", "an \udcff answer")
    raw = Reply(200, text)
    assert (await outcomes(server, "chat", raw))[0][:2] == ("answer", "an \ufffd answer")


@pytest.mark.parametrize(
    ("word", "category", "reason"),
    [
        ("STOP", "answer", "stop"),
        ("eos", "answer", None),
        ("LENGTH", "answer", "length"),
        ("max_tokens", "answer", "length"),
        ("CONTENT_FILTER", "content_filter", "content_filter"),
        ("sensitive", "content_filter", "content_filter"),
        ("network_error", "server_error", None),
        ("insufficient_system_resource", "server_error", None),
    ],
)
async def test_finish_reasons_of_other_providers_are_known(
    server: LoopbackServer, word: str, category: str, reason: str | None
) -> None:
    """An answer that was cut off, blocked or broken off is not a complete one."""
    ((found, _, tokens),) = await outcomes(server, "chat", Reply(200, body("chat", **choice(finish_reason=word))))
    assert found == category
    assert getattr(tokens, "finish_reason", None) == reason
    assert tokens["output_tokens"] == 5


@EVERY_MODEL
async def test_tokens_of_an_unreadable_reply_are_counted(server: LoopbackServer, api: str) -> None:
    """The provider billed it, whatever its client makes of the answer."""
    odd: dict[str, Json] = {
        "chat": {"choices": []},
        "responses": {"output": [item(type="reasoning", summary=[{"text": 5}], content=[{"type": 3}])], "status": 7},
        "messages": {"content": [{"type": "thinking", "thinking": None, "signature": {}}], "stop_reason": {}},
        "google": {"candidates": {"content": "an answer"}},
        "direct": {"candidates": {"content": "an answer"}},
    }
    ((category, _, tokens),) = await outcomes(server, api, Reply(200, body(api, **odd[api])))
    assert category in ("validation", "server_error")
    assert (tokens["input_tokens"], tokens["output_tokens"]) == (10, 5)


SCHEMA: Json = {"type": "object", "properties": {"kind": {"type": "string"}}}


@pytest.mark.parametrize("content", [[], [{"type": "text", "text": "I can't help"}]])
async def test_refusal_of_anthropic_is_a_content_filter(server: LoopbackServer, content: list[Json]) -> None:
    """Also if the answer had begun; the tokens are counted, and the model is not called again."""
    refused = Reply(200, body("messages", stop_reason="refusal", content=content))
    ((category, text, tokens),) = await outcomes(server, "messages", refused, output_schema=SCHEMA)
    assert (category, server.requests) == ("content_filter", 1)
    assert text == "the provider's content filter stopped the answer (refusal)"
    assert (tokens["input_tokens"], tokens["output_tokens"]) == (10, 5)


async def test_anthropic_is_asked_for_a_whole_answer(server: LoopbackServer) -> None:
    """A stream takes several times the CPU, and pydantic-ai takes the beginning of a broken stream for an answer."""
    assert (await outcomes(server, "messages", Reply(200, body("messages"))))[0][0] == "answer"
    sent = server.calls[-1].body
    assert (sent["stream"], sent["max_tokens"]) == (False, 64000)
    timeout = {"timeout_per_item": 3600}
    await outcomes(server, "messages", Reply(200, body("messages")), config=timeout)
    assert server.calls[-1].body["stream"] is True, "an idle connection may be dropped after some minutes"


EVENTS: list[Json] = [
    {"type": "message_start", "message": body("messages", content=[], stop_reason=None)},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "an "}},
]
REST: list[Json] = [
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "answer"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
    {"type": "message_stop"},
]


def stream(events: list[Json]) -> Reply:
    text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    return Reply(200, text, {"content-type": "text/event-stream"})


@pytest.mark.parametrize("kind", [ModelStrategy, PydanticAIStrategy])
async def test_stream_that_ends_early_is_no_answer(server: LoopbackServer, kind: Any) -> None:
    """Its tokens are counted, and the call is made again."""
    async with http_client(ProcessorConfig()) as client:
        provider = AnthropicProvider(base_url=server.url, api_key="k", http_client=client)
        model = AnthropicModel("claude-haiku-4-5", provider=provider)
        strategy = kind(model if kind is ModelStrategy else Agent(model))
        server.script(stream(EVENTS), stream(EVENTS + REST))
        with pytest.raises(CallFailed, match="ended before its end") as caught:
            await strategy.execute("hi", 1, 30)
        answer, tokens = await strategy.execute("hi", 1, 30)
    info = DefaultErrorClassifier().classify(caught.value.error)
    assert (info.category, info.is_retryable) == ("connection", True)
    assert caught.value.token_usage["input_tokens"] == 10
    assert (answer, tokens["output_tokens"]) == ("an answer", 5)
