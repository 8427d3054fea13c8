"""`PydanticAIStrategy` over HTTP: categories, waits, requests and tokens, for OpenAI and for Gemini."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider

from batch_llm.errors import ErrorInfo
from batch_llm.strategies import PydanticAIStrategy
from tests.support import refusals
from tests.support.call_outcome import Outcome, attempt, final, patience, retryable
from tests.support.servers import GeminiServer, OpenAIServer, Reply


class Book(BaseModel):
    """An answer."""

    title: str
    pages: int


def on_openai(server: OpenAIServer, output_type: Any = str, timeout: float = 10.0) -> PydanticAIStrategy[Any]:
    model = OpenAIChatModel("gpt", provider=OpenAIProvider(base_url=server.base_url, api_key="k"))
    settings: Any = {"max_retries": 0, "timeout": timeout}
    return PydanticAIStrategy(Agent(model, output_type=output_type, model_settings=settings))


def on_gemini(server: GeminiServer, output_type: Any = str, timeout: float = 10.0) -> PydanticAIStrategy[Any]:
    model = GoogleModel("gemini-2.5-flash", provider=GoogleProvider(base_url=server.url, api_key="k"))
    return PydanticAIStrategy(Agent(model, output_type=output_type, model_settings={"timeout": timeout}))


async def ask(strategy: PydanticAIStrategy[Any]) -> Outcome:
    """Make one attempt, and close the agent's connections."""
    async with strategy.agent:
        return await attempt(strategy)


@pytest.mark.sample(1)
@pytest.mark.parametrize("output_type", [Book, NativeOutput(Book)])
async def test_structured_answers_are_parsed(
    openai_server: OpenAIServer, gemini_server: GeminiServer, output_type: Any
) -> None:
    """The output is an instance of the model, with the tokens that the server counted."""
    for server, strategy in (
        (openai_server, on_openai(openai_server, output_type)),
        (gemini_server, on_gemini(gemini_server, output_type)),
    ):
        outcome = await ask(strategy)
        assert outcome.output == Book(title="one two three", pages=0)
        assert outcome.spent == (server.input_tokens, server.output_tokens)
        assert outcome.tokens["total_tokens"] == sum(outcome.spent)


async def test_cached_tokens_are_reported(openai_server: OpenAIServer) -> None:
    """The result has the prompt tokens that OpenAI had cached."""
    openai_server.script(OpenAIServer.text("fine", cached=2))
    assert (await ask(on_openai(openai_server))).tokens == {
        "input_tokens": 3,
        "output_tokens": 1,
        "total_tokens": 4,
        "cached_input_tokens": 2,
    }


@pytest.mark.sample(4)
@pytest.mark.parametrize(("reply", "info"), refusals.OPENAI)
async def test_openai_errors_are_classified(openai_server: OpenAIServer, reply: Reply, info: ErrorInfo) -> None:
    """A refused request costs no tokens."""
    openai_server.script(reply)
    outcome = await ask(on_openai(openai_server, timeout=patience(reply)))
    assert (outcome.info, openai_server.requests, outcome.spent) == (info, 1, (0, 0))


@pytest.mark.sample(2)
@pytest.mark.parametrize(("reply", "info"), refusals.GEMINI)
async def test_gemini_errors_are_classified(gemini_server: GeminiServer, reply: Reply, info: ErrorInfo) -> None:
    """A refused request costs no tokens and is not repeated."""
    gemini_server.script(reply)
    outcome = await ask(on_gemini(gemini_server, timeout=patience(reply)))
    assert (outcome.info, gemini_server.requests, outcome.spent) == (info, 1, (0, 0))


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("reply", "output_type", "info", "requests"),
    [
        (OpenAIServer.content_filter(), str, final("content_filter"), 1),
        (OpenAIServer.content_filter(None), str, final("content_filter"), 1),
        (OpenAIServer.content_filter(), NativeOutput(Book), final("content_filter"), 2),
        (OpenAIServer.length(), NativeOutput(Book), final("validation"), 1),
        (OpenAIServer.broken_json(), NativeOutput(Book), retryable("validation"), 2),
        (OpenAIServer.text(None), str, retryable("validation"), 2),
    ],
)
async def test_unusable_answers_fail(
    openai_server: OpenAIServer, reply: Reply, output_type: Any, info: ErrorInfo, requests: int
) -> None:
    """A blocked, truncated, invalid or empty answer fails; tokens of the agent's own retries are counted, too."""
    openai_server.script(reply, reply)
    outcome = await ask(on_openai(openai_server, output_type))
    assert (outcome.info, openai_server.requests) == (info, requests)
    assert outcome.spent == (openai_server.input_tokens, openai_server.output_tokens)
    assert outcome.spent[0] > 0


async def test_tokens_before_a_refused_retry_of_the_agent_are_counted(openai_server: OpenAIServer) -> None:
    """The rate limit is the category, and the tokens of the invalid answer are counted."""
    openai_server.script(OpenAIServer.broken_json(), OpenAIServer.rate_limit(7))
    outcome = await ask(on_openai(openai_server, NativeOutput(Book)))
    assert (outcome.info, openai_server.requests) == (retryable("rate_limit", 7.0), 2)
    assert outcome.spent == (openai_server.input_tokens, openai_server.output_tokens)
    assert outcome.spent[0] > 0


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("kind", "output_type", "info", "requests"),
    [
        ("cut", NativeOutput(Book), final("validation"), 1),
        ("broken", NativeOutput(Book), retryable("validation"), 2),
        ("empty", str, retryable("validation"), 2),
        ("cut", str, None, 1),
    ],
)
async def test_truncated_invalid_and_empty_gemini_answers_fail(
    gemini_server: GeminiServer, kind: str, output_type: Any, info: ErrorInfo | None, requests: int
) -> None:
    """As with OpenAI, all except plain text at the token limit fail, and every token is counted."""
    replies = {"cut": gemini_server.max_tokens(), "broken": gemini_server.text("{"), "empty": gemini_server.text(None)}
    gemini_server.script(*[replies[kind]] * 2)
    outcome = await ask(on_gemini(gemini_server, output_type))
    assert (outcome.info, gemini_server.requests) == (info, requests)
    assert outcome.spent == (gemini_server.input_tokens, gemini_server.output_tokens)
    assert outcome.spent[0] > 0


async def test_gemini_blocks_are_content_filter(gemini_server: GeminiServer) -> None:
    """A blocked prompt and an answer stopped for safety fail as `content_filter`, with their tokens."""
    for reply in (gemini_server.blocked(), gemini_server.safety()):
        gemini_server.script(reply)
        outcome = await ask(on_gemini(gemini_server))
        assert outcome.info == final("content_filter")
        assert outcome.spent[0] == 3


async def test_text_at_the_token_limit_is_an_answer(
    openai_server: OpenAIServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Text that ends at the token limit is an answer; one warning is logged for all of them."""
    strategy = on_openai(openai_server)
    openai_server.script(OpenAIServer.length(), OpenAIServer.length())
    outcomes = [await ask(strategy) for _ in range(2)]
    assert [outcome.output for outcome in outcomes] == ["Half an ans"] * 2
    assert [record.levelname for record in caplog.records if "token limit" in record.message] == ["WARNING"]


class Answer:
    """Result of a custom agent."""

    def __init__(self, **facts: object) -> None:
        vars(self).update(facts)


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        (Answer(output="fine"), {}),
        (Answer(output="fine", usage={"input_tokens": 3, "output_tokens": None}), {"input_tokens": 3}),
        (
            Answer(output="fine", usage=lambda: Answer(input_tokens=3, output_tokens=4)),
            {"input_tokens": 3, "output_tokens": 4},
        ),
        (Answer(output="fine", response=None, usage=Answer(total_tokens=7, cache_read_tokens=0)), {"total_tokens": 7}),
        ("fine", {}),
    ],
)
async def test_result_of_a_custom_agent_may_lack_usage(answer: Any, tokens: dict[str, int]) -> None:
    class Own:
        async def run(self, prompt: str) -> Any:
            return answer

    agent: Any = Own()
    assert await PydanticAIStrategy[str](agent).execute("prompt", 1, 10.0) == ("fine", tokens)
