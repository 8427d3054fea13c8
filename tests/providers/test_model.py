"""`ModelStrategy` over HTTP: requests, answers, categories and tokens."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai.models import Model

from batch_llm import ModelStrategy
from batch_llm.errors import ErrorInfo
from tests.support import refusals
from tests.support.call_outcome import attempt, final, patience, retryable
from tests.support.provider_models import SCHEMA, Book, Server, openai_model
from tests.support.servers import GeminiServer, OpenAIServer, Reply


@dataclass
class Page:
    """A page."""

    text: str


class Node(BaseModel):
    """Recursive model."""

    name: str
    child: Node | None


async def test_text_answer_has_output_and_tokens(both: tuple[Server, Model]) -> None:
    """One request with instructions and settings returns output and tokens."""
    server, model = both
    outcome = await attempt(ModelStrategy(model, instructions="Be brief.", settings={"temperature": 0.5}))
    assert (outcome.output, server.requests) == ("one two three", 1)
    assert outcome.tokens == {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8}
    assert "Be brief." in str(server.calls[0].body)
    assert "'temperature': 0.5" in str(server.calls[0].body)


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("output_type", "answer"),
    [
        (Book, Book(title="one two three", pages=0)),
        (SCHEMA, {"title": "one two three", "pages": 0}),
        (Page, Page("one two three")),
        (list[str], ["one two three"]),
        (int, 0),
    ],
)
async def test_structured_answers_are_parsed(both: tuple[Server, Model], output_type: Any, answer: Any) -> None:
    """The schema is sent as the response format; any type of pydantic can be the output type."""
    server, model = both
    outcome = await attempt(ModelStrategy(model, output_type=output_type))
    assert (outcome.output, server.requests) == (answer, 1)
    assert outcome.spent == (server.input_tokens, server.output_tokens)
    assert "schema" in str(server.calls[0].body).lower()
    assert "tools" not in server.calls[0].body


async def test_recursive_output_type_is_supported(openai_server: OpenAIServer, on_openai: Model) -> None:
    """Its schema is an object with definitions."""
    openai_server.script(OpenAIServer.text('{"name": "a", "child": {"name": "b", "child": null}}'))
    outcome = await attempt(ModelStrategy(on_openai, output_type=Node))
    assert outcome.output == Node(name="a", child=Node(name="b", child=None))


async def test_json_in_a_markdown_block_is_parsed(openai_server: OpenAIServer, on_openai: Model) -> None:
    """The answer is read from a fenced block."""
    openai_server.script(OpenAIServer.text('Here:\n```json\n{"title": "t", "pages": 3}\n```\n'))
    assert (await attempt(ModelStrategy(on_openai, output_type=Book))).output == Book(title="t", pages=3)


async def test_cached_tokens_are_reported(openai_server: OpenAIServer, on_openai: Model) -> None:
    """The result has the prompt tokens that OpenAI had cached."""
    openai_server.script(OpenAIServer.text("fine", cached=2))
    assert (await attempt(ModelStrategy(on_openai))).tokens == {
        "input_tokens": 3,
        "output_tokens": 1,
        "total_tokens": 4,
        "cached_input_tokens": 2,
    }


@pytest.mark.sample(4)
@pytest.mark.parametrize(("reply", "info"), refusals.OPENAI)
async def test_openai_errors_are_classified(
    openai_server: OpenAIServer, on_openai: Model, reply: Reply, info: ErrorInfo
) -> None:
    """A refused request costs no tokens."""
    openai_server.script(reply)
    outcome = await attempt(ModelStrategy(on_openai, settings={"timeout": patience(reply)}))
    assert (outcome.info, openai_server.requests, outcome.spent) == (info, 1, (0, 0))


@pytest.mark.sample(2)
@pytest.mark.parametrize(("reply", "info"), refusals.GEMINI)
async def test_gemini_errors_are_classified(
    gemini_server: GeminiServer, on_gemini: Model, reply: Reply, info: ErrorInfo
) -> None:
    """A refused request costs no tokens and is not repeated."""
    gemini_server.script(reply)
    outcome = await attempt(ModelStrategy(on_gemini, settings={"timeout": patience(reply)}))
    assert (outcome.info, gemini_server.requests, outcome.spent) == (info, 1, (0, 0))


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("reply", "output_type", "info", "requests"),
    [
        (OpenAIServer.content_filter(), str, final("content_filter"), 1),
        (OpenAIServer.content_filter(None), str, final("content_filter"), 1),
        (OpenAIServer.content_filter(), Book, final("content_filter"), 1),
        (OpenAIServer.length(), Book, final("validation"), 1),
        (OpenAIServer.length(""), str, final("validation"), 1),
        (OpenAIServer.broken_json(), Book, retryable("validation"), 2),
        (OpenAIServer.broken_json(), SCHEMA, retryable("validation"), 2),
        (OpenAIServer.text('{"title": 5, "pages": 1}'), SCHEMA, retryable("validation"), 2),
        (OpenAIServer.text(None), str, retryable("validation"), 2),
    ],
)
async def test_unusable_answers_fail(
    openai_server: OpenAIServer, on_openai: Model, reply: Reply, output_type: Any, info: ErrorInfo, requests: int
) -> None:
    """A blocked, truncated, invalid or empty answer fails; it is requested again only if that can help."""
    openai_server.script(reply, reply)
    outcome = await attempt(ModelStrategy(on_openai, output_type=output_type))
    assert (outcome.info, openai_server.requests) == (info, requests)
    assert outcome.spent == (openai_server.input_tokens, openai_server.output_tokens)
    assert outcome.spent[0] > 0


async def test_gemini_blocks_are_content_filter(gemini_server: GeminiServer, on_gemini: Model) -> None:
    """A blocked prompt and an answer stopped for safety fail as `content_filter`, with their tokens."""
    for requests, reply in enumerate((gemini_server.blocked(), gemini_server.safety()), 1):
        gemini_server.script(reply)
        outcome = await attempt(ModelStrategy(on_gemini))
        assert (outcome.info, gemini_server.requests) == (final("content_filter"), requests)
        assert outcome.spent[0] == 3


async def test_unusable_gemini_answers_fail(gemini_server: GeminiServer, on_gemini: Model) -> None:
    """Invalid JSON and an empty answer are requested again, a truncated one is not; all tokens are counted."""
    for reply, requests, info in (
        (gemini_server.text("{"), 2, retryable("validation")),
        (gemini_server.text(None), 2, retryable("validation")),
        (gemini_server.max_tokens(), 1, final("validation")),
    ):
        before = gemini_server.requests, gemini_server.input_tokens, gemini_server.output_tokens
        gemini_server.script(*[reply] * requests)
        outcome = await attempt(ModelStrategy(on_gemini, output_type=Book))
        assert (outcome.info, gemini_server.requests - before[0]) == (info, requests)
        assert outcome.spent == (gemini_server.input_tokens - before[1], gemini_server.output_tokens - before[2])


@pytest.mark.filterwarnings("ignore:BRAND_NEW is not a valid FinishReason:UserWarning")  # google-genai's
@pytest.mark.parametrize("text", ["Half an ans", None])
@pytest.mark.parametrize("reason", ["OTHER", "LANGUAGE", "MALFORMED_FUNCTION_CALL", "BRAND_NEW"])
async def test_answer_that_gemini_breaks_off_is_not_repeated_with_feedback(
    gemini_server: GeminiServer, on_gemini: Model, reason: str, text: str | None
) -> None:
    """The model made no mistake that it could correct: one call, which the engine may try again."""
    gemini_server.script(gemini_server.text(text, finish_reason=reason))
    outcome = await attempt(ModelStrategy(on_gemini, output_type=Book, reasks=3))
    assert (outcome.info, gemini_server.requests) == (retryable("validation"), 1)
    assert outcome.spent == (3, 3 if text else 0)


async def test_text_at_the_token_limit_is_an_answer(
    openai_server: OpenAIServer, on_openai: Model, caplog: pytest.LogCaptureFixture
) -> None:
    """Text that ends at the token limit is an answer; one warning is logged for all of them."""
    strategy = ModelStrategy(on_openai)
    openai_server.script(OpenAIServer.length(), OpenAIServer.length())
    outcomes = [await attempt(strategy) for _ in range(2)]
    assert [outcome.output for outcome in outcomes] == ["Half an ans"] * 2
    warned = [record.levelno for record in caplog.records if "token limit" in record.message]
    assert warned == [logging.WARNING]


@pytest.mark.parametrize("output_type", [Book, SCHEMA])
async def test_next_request_has_the_invalid_answer_and_the_reason(
    openai_server: OpenAIServer, on_openai: Model, output_type: Any
) -> None:
    """The next request has the answer and the reason; the tokens of both requests are counted."""
    openai_server.script(OpenAIServer.text('{"title": 5, "pages": 1}'))
    outcome = await attempt(ModelStrategy(on_openai, output_type=output_type))
    assert outcome.info is None
    assert outcome.spent == (openai_server.input_tokens, openai_server.output_tokens)
    messages = openai_server.calls[1].body["messages"]
    assert {"role": "assistant", "content": '{"title": 5, "pages": 1}'} in messages
    assert "string" in messages[-1]["content"]


@pytest.mark.parametrize("reasks", [0, 1, 3])
async def test_invalid_answers_are_requested_again_reasks_times(
    openai_server: OpenAIServer, on_openai: Model, reasks: int
) -> None:
    """At most `reasks` times, whatever is wrong with the answers."""
    broken = OpenAIServer.broken_json()
    openai_server.script(*[broken] * 9)
    outcome = await attempt(ModelStrategy(on_openai, output_type=Book, reasks=reasks))
    assert (outcome.info, openai_server.requests) == (retryable("validation"), 1 + reasks)


async def test_tokens_before_an_error_are_counted(openai_server: OpenAIServer, on_openai: Model) -> None:
    """An invalid answer was paid for, also if the next request fails."""
    openai_server.script(OpenAIServer.broken_json(), OpenAIServer.rate_limit(7))
    outcome = await attempt(ModelStrategy(on_openai, output_type=Book))
    assert outcome.info == retryable("rate_limit", 7.0)
    assert outcome.spent == (openai_server.input_tokens, openai_server.output_tokens)


async def test_refused_connection_is_classified() -> None:
    """A refused connection is a connection error, not a timeout."""
    async with AsyncExitStack() as stack:
        with OpenAIServer() as gone:
            model = await stack.enter_async_context(openai_model(gone))
        outcome = await attempt(ModelStrategy(model))
    assert (outcome.info, outcome.spent) == (retryable("connection"), (0, 0))


@pytest.mark.parametrize("reasks", [-1, True, 0.5, float("nan")])
def test_invalid_reasks_is_refused(on_openai: Model, reasks: Any) -> None:
    """The value must be an integer that is not negative."""
    with pytest.raises(ValueError, match=f"reasks is {reasks}; it must be an integer of 0 or more"):
        ModelStrategy(on_openai, reasks=reasks)
