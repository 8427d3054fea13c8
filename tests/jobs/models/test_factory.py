"""Strategies made from a model's name, over real HTTP; missing requirements are reported in one line."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.genai.types import GenerateContentConfig
from pydantic_ai.exceptions import ModelServerError
from pydantic_ai.models.anthropic import AnthropicModelSettings
from pydantic_ai.models.google import GoogleModelSettings
from pydantic_ai.models.openai import OpenAIChatModelSettings, OpenAIResponsesModelSettings

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob, ShardOutcome, merge, plan, run_shard
from batch_llm.jobs.models.factory import check_model, make_strategy
from batch_llm.jobs.secrets import KeyMissing
from tests.support.jobs import job, read_lines, write_lines
from tests.support.servers import HANG, HTML_502, GeminiServer, OpenAIServer

_KEYS = ["OPENAI_API_KEY", "OPENAI_BASE_URL", "GOOGLE_API_KEY", "GEMINI_API_KEY", "ANTHROPIC_API_KEY"]
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "good": {"type": "boolean"}},
    "required": ["title", "good"],
}


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove all keys from the environment."""
    for name in _KEYS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def openai(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    """Start an OpenAI-compatible server on loopback and set its address as a user does."""
    with OpenAIServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "some-key-of-mine")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "some-key-of-mine")
        yield server


@pytest.fixture
def gemini(monkeypatch: pytest.MonkeyPatch) -> Iterator[GeminiServer]:
    """Start a Gemini server on loopback."""
    with GeminiServer(least_cache_tokens=10) as server:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        monkeypatch.setenv("GOOGLE_API_KEY", "some-key-of-mine")
        yield server


async def _whole_run(made_for: BatchJob, home: Path) -> tuple[ShardOutcome, list[dict[str, Any]]]:
    write_lines(home / "docs.jsonl", {"id": "a", "text": "first"}, {"id": "b", "text": "second"})
    made = plan(made_for, "r")
    outcome = await run_shard(made_for, made.folder, made.shards[0])
    return outcome, read_lines(merge(made_for, made).output)


async def test_a_compatible_server_gives_text(home: Path, openai: OpenAIServer) -> None:
    """Without a schema the answer is plain text; instructions and settings are sent."""
    settings = {"instructions": "Echo.", "model_settings": {"temperature": 0.25, "max_tokens": 7}}
    outcome, rows = await _whole_run(job(model="openai-chat:gpt-4.1-mini", **settings), home)
    assert [row["answer"] for row in rows] == ["first", "second"]
    assert outcome.cost_usd is not None
    assert outcome.cost_usd > 0
    body = openai.calls[0].body
    assert (body["temperature"], body["max_tokens"], "max_completion_tokens" in body) == (0.25, 7, False)
    assert body["messages"][0]["content"] == "Echo."


async def test_schema_is_sent_as_the_response_format(home: Path, openai: OpenAIServer) -> None:
    """The provider gets the JSON Schema as the response format; its fields are columns."""
    _, rows = await _whole_run(job(model="openai-chat:gpt-4.1-mini", output_schema=_SCHEMA), home)
    assert openai.calls[0].body["response_format"]["type"] == "json_schema"
    assert isinstance(rows[0]["title"], str)
    assert isinstance(rows[0]["good"], bool)


async def test_answer_that_does_not_match_the_schema_is_requested_again(home: Path, openai: OpenAIServer) -> None:
    """The next request tells the model what was wrong."""
    openai.script(OpenAIServer.text('{"title": 5, "good": true}'))
    config = {"max_workers": 1}
    outcome, _ = await _whole_run(job(model="openai-chat:gpt-4.1-mini", output_schema=_SCHEMA, config=config), home)
    assert (outcome.succeeded, openai.requests) == (2, 3)
    assert "title: 5 is not of type 'string'" in str(openai.calls[1].body["messages"])


async def test_the_sdk_does_not_retry(home: Path, openai: OpenAIServer) -> None:
    """The engine sees every failure."""
    openai.script(OpenAIServer.server_error(), OpenAIServer.server_error())
    config = {"max_workers": 1, "retry": {"max_attempts": 1}}
    outcome, _ = await _whole_run(job(model="openai-chat:gpt-4.1-mini", config=config), home)
    assert (outcome.failed, openai.requests) == (2, 2)
    assert outcome.unfinished is not None
    assert (outcome.unfinished.category, outcome.unfinished.is_retryable) == ("server_error", True)


async def test_a_bad_key_ends_the_shard(home: Path, openai: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key does not appear in any file."""
    monkeypatch.setenv("OPENAI_API_KEY", "bad-key")
    outcome, _ = await _whole_run(job(model="openai-chat:gpt-4.1-mini", config={"max_workers": 1}), home)
    assert outcome.unfinished is not None
    assert (outcome.unfinished.category, outcome.not_attempted, openai.requests) == ("auth", 1, 1)


async def test_gemini_direct_uses_the_api_of_google_genai(home: Path, gemini: GeminiServer) -> None:
    """With the schema, the instructions and the settings, by google-genai's own names."""
    settings = {"instructions": "Be brief.", "model_settings": {"max_tokens": 9}}
    outcome, rows = await _whole_run(
        job(model="gemini-direct:gemini-2.5-flash", output_schema=_SCHEMA, **settings), home
    )
    assert outcome.succeeded == 2
    assert isinstance(rows[0]["title"], str)
    body = gemini.calls[0].body
    assert body["generationConfig"]["maxOutputTokens"] == 9
    assert body["systemInstruction"]["parts"][0]["text"] == "Be brief."


async def test_a_cached_context_is_sent_once(home: Path, gemini: GeminiServer) -> None:
    """One cache per shard contains the instructions, and is deleted at the end."""
    (home / "book.txt").write_text("word " * 50)
    settings = {"instructions": "Be brief.", "cached_context": "@book.txt"}
    outcome, rows = await _whole_run(job(model="gemini-direct:gemini-2.5-flash", **settings), home)
    assert outcome.succeeded == 2
    assert [row["answer"] for row in rows] == ["first", "second"]
    assert (gemini.kinds["cache.create"], gemini.kinds["cache.delete"], gemini.kinds["generate"]) == (1, 1, 2)


@pytest.mark.sample(1)
@pytest.mark.parametrize("model", ["openai-chat:gpt-4.1-mini", "google:gemini-2.5-flash"])
async def test_answer_is_text_or_matches_the_schema(
    home: Path, openai: OpenAIServer, gemini: GeminiServer, model: str
) -> None:
    """With each provider, under its own parameter names."""
    _, rows = await _whole_run(job(model=model), home)
    assert [row["answer"] for row in rows] == ["first", "second"]
    _, rows = await _whole_run(job(model=model, output_schema=_SCHEMA), home)
    assert [(row["title"], row["good"]) for row in rows] == [("first", True), ("second", True)]


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "model",
    [
        "openai-chat:gpt-4.1-mini",
        "openai:gpt-4.1-mini",
        "anthropic:some-model",
        "google:gemini-2.5-flash",
        "gemini-direct:gemini-2.5-flash",
    ],
)
async def test_no_call_waits_for_a_connection(openai: OpenAIServer, gemini: GeminiServer, model: str) -> None:
    """All workers' calls are in flight at once."""
    server = gemini if "gemini" in model else openai
    server.rule = lambda _: HANG
    strategy = make_strategy(job(model=model, config={"max_workers": 150}))
    await strategy.prepare()
    calls = [asyncio.create_task(strategy.execute("a", 1, 60.0)) for _ in range(150)]
    try:
        async with asyncio.timeout(30):
            while server.in_flight < 150:
                assert not any(call.done() for call in calls)
                await asyncio.sleep(0.01)
    finally:
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await strategy.cleanup()


async def test_the_clients_retries_are_off(openai: OpenAIServer, gemini: GeminiServer) -> None:
    """Also if a job's settings enable them: retries in the client would multiply those of the engine."""
    settings = {"model_settings": {"max_retries": 5}}
    for server, model in ((openai, "openai-chat:m"), (openai, "anthropic:m"), (gemini, "google:gemini-2.5-flash")):
        server.rule = lambda _: HTML_502
        before = server.requests
        strategy = make_strategy(job(model=model, **settings))
        await strategy.prepare()
        with pytest.raises(ModelServerError):
            await strategy.execute("a", 1, 60.0)
        await strategy.cleanup()
        assert server.requests == before + 1


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"model": "nobody:gpt"}, "model 'nobody:gpt' is unknown: name one like 'openai-chat:gpt-6-luna'"),
        ({"model": "gpt-4.1-mini"}, "model 'gpt-4.1-mini' is unknown: "),
        (
            {"model": "openai-chat:gpt-4.1-mini"},
            "model 'openai-chat:gpt-4.1-mini' needs a key: set OPENAI_API_KEY in the environment, or save",
        ),
        ({"model": "google:gemini-2.5-flash"}, "model 'google:gemini-2.5-flash' needs a key: set GOOGLE_API_KEY"),
        ({"model": "gemini-direct:m"}, "model 'gemini-direct:m' needs a key: set GOOGLE_API_KEY or GEMINI_API_KEY"),
        ({"model": "gemini-direct:"}, "model 'gemini-direct:' has no model name"),
        ({"model": "groq:llama"}, "model 'groq:llama' needs a package that is not installed:"),
        ({"cached_context": "x"}, "cached_context works with 'gemini-direct:<model>' only"),
        ({"model": "gemini-direct:m", "cached_context": "@nope.txt"}, "cached_context: "),
    ],
)
def test_missing_requirement_of_a_model_is_reported_in_one_line(settings: dict[str, Any], line: str) -> None:
    """The error is raised before the run starts."""
    with pytest.raises(JobError) as error:
        check_model(job(**settings))
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"child": {"$ref": "#/$defs/nobody"}}},
        {"type": "object", "properties": {"child": {"$ref": "https://example.com/node.json"}}},
        {
            "type": "object",
            "properties": {"child": {"$ref": "#/$defs/a"}},
            "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
        },
    ],
    ids=["nowhere", "elsewhere", "circle of references alone"],
)
def test_schema_with_circular_reference_is_rejected(schema: dict[str, Any]) -> None:
    """The error is one line, raised before the first call."""
    with pytest.raises(JobError, match=r"output_schema cannot be used: .* replace it by the definition"):
        check_model(job(model="local", output_schema=schema))


@pytest.mark.parametrize(
    ("model", "variable"),
    [
        ("openai:gpt-6-luna", "OPENAI_API_KEY"),
        ("anthropic:claude-haiku-5-5", "ANTHROPIC_API_KEY"),
        ("google:gemini-3.8-flash", "GOOGLE_API_KEY"),
    ],
)
def test_an_empty_key_counts_as_missing(monkeypatch: pytest.MonkeyPatch, model: str, variable: str) -> None:
    monkeypatch.setenv(variable, "")
    with pytest.raises(KeyMissing, match=f"needs a key: set {variable} in the environment"):
        check_model(job(model=model))


def test_a_compatible_server_needs_no_key_if_the_key_is_empty(
    openai: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "")
    check_model(job(model="openai-chat:some-model"))


def test_a_compatible_server_needs_no_key(openai: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many local servers require no key."""
    monkeypatch.delenv("OPENAI_API_KEY")
    assert make_strategy(job(model="openai-chat:anything")) is not None


def test_a_misspelled_model_setting_is_refused() -> None:
    """pydantic-ai ignores names that it does not know."""
    with pytest.raises(JobError, match=r"model_settings.tempratur is not .* mean 'model_settings.temperature'\?"):
        check_model(job(model="local", model_settings={"tempratur": 0}))


def test_no_setting_of_a_provider_is_taken_for_a_misspelled_one() -> None:
    known = [OpenAIChatModelSettings, OpenAIResponsesModelSettings, AnthropicModelSettings, GoogleModelSettings]
    names = {name for settings in known for name in settings.__annotations__}
    names |= GenerateContentConfig.model_fields.keys()
    assert len(names) > 50
    check_model(job(model="local", model_settings=dict.fromkeys(names, 0)))
