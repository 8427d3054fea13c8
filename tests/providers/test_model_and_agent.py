"""Comparison of `ModelStrategy` with `PydanticAIStrategy`: equal requests, outputs, tokens and categories."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic_ai import Agent, ModelRetry, NativeOutput, PromptedOutput, StructuredDict, ToolOutput
from pydantic_ai.models import Model
from pydantic_ai.models.fallback import FallbackModel

from batch_llm import ModelStrategy
from batch_llm.strategies import PydanticAIStrategy
from batch_llm.strategies.output_schema import reason_against
from tests.support.call_outcome import attempt
from tests.support.provider_models import SCHEMA, Book, Server, openai_model
from tests.support.servers import OpenAIServer, Reply

REPLIES: list[list[str | None]] = [
    [],
    ["{"],
    ['{"title": 5}'],
    ['{"title": "LOUD", "pages": 2}'],
    ["{", "{"],
    [None],
    [None, None],
]


@pytest.mark.sample(2)
@pytest.mark.parametrize("replies", REPLIES, ids=str)
@pytest.mark.parametrize(
    ("output_type", "agents"),
    [
        (str, str),
        (Book, NativeOutput(Book)),
        (SCHEMA, NativeOutput(StructuredDict(SCHEMA))),
        (list[str], NativeOutput(list[str])),
    ],
    ids=["text", "model", "schema", "list"],
)
async def test_model_strategy_and_agent_make_the_same_requests(
    both: tuple[Server, Model], replies: list[str | None], output_type: Any, agents: Any
) -> None:
    """The requests are equal byte for byte, and so are output, tokens and category."""
    server, model = both
    agent: Agent[None, Any] = Agent(model, output_type=agents, instructions="Be brief.")
    if output_type is SCHEMA:
        agent.output_validator(_fits_the_schema)
    lean = ModelStrategy(model, output_type=output_type, instructions="Be brief.")
    await _compare(server, PydanticAIStrategy(agent), lean, [server.text(reply) for reply in replies])


@pytest.mark.sample(2)
@pytest.mark.parametrize("replies", REPLIES, ids=str)
@pytest.mark.parametrize(("mode", "marker"), [("tool", ToolOutput), ("prompted", PromptedOutput)])
async def test_model_without_native_output_gets_a_tool_or_instructions(
    openai_server: OpenAIServer, replies: list[str | None], mode: Any, marker: Any
) -> None:
    """The schema is sent as a tool or as instructions, as an agent does."""
    profile = {"supports_json_schema_output": False, "default_structured_output_mode": mode}
    async with openai_model(openai_server, **profile) as model:
        agent: Agent[None, Any] = Agent(model, output_type=marker(Book))
        lean = ModelStrategy(model, output_type=Book)
        await _compare(openai_server, PydanticAIStrategy(agent), lean, [OpenAIServer.text(reply) for reply in replies])


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "arguments", ['{"title": "t", "pages": 3}', '{"title": 5}', "{", "", '{"title": "LOUD", "pages": 2}']
)
async def test_invalid_tool_arguments_are_reported_to_the_model(openai_server: OpenAIServer, arguments: str) -> None:
    """Invalid arguments are reported in the reply to the tool call."""
    async with openai_model(openai_server, supports_json_schema_output=False) as model:
        agent: Agent[None, Any] = Agent(model, output_type=Book)
        script = [OpenAIServer.calls_tool("final_result", arguments)]
        await _compare(openai_server, PydanticAIStrategy(agent), ModelStrategy(model, output_type=Book), script)


async def test_call_of_an_unknown_tool_gets_a_reply(openai_server: OpenAIServer) -> None:
    """The tool call gets a reply, without which the next request would be invalid."""
    async with openai_model(openai_server, supports_json_schema_output=False) as model:
        openai_server.script(OpenAIServer.calls_tool("search", '{"title": "fits", "pages": 3}'))
        outcome = await attempt(ModelStrategy(model, output_type=Book))
    assert (outcome.output, openai_server.requests) == (Book(title="one two three", pages=0), 2)
    assert openai_server.calls[1].body["messages"][-1]["role"] == "tool"


@pytest.mark.sample(1)
@pytest.mark.parametrize("mode", ["tool", "native", "prompted"])
async def test_fallback_model_gets_the_same_requests(openai_server: OpenAIServer, mode: Any) -> None:
    """The request to the model that answers equals that of an agent."""
    profile = {"supports_json_schema_output": mode == "native", "default_structured_output_mode": mode}
    async with openai_model(openai_server) as first, openai_model(openai_server, **profile) as second:
        model = FallbackModel(first, second)
        agent: Agent[None, Any] = Agent(model, output_type=Book)
        lean = ModelStrategy(model, output_type=Book)
        await _compare(openai_server, PydanticAIStrategy(agent), lean, [OpenAIServer.error(500, "down", None)])
        assert isinstance((await attempt(lean)).output, Book)


def _fits_the_schema(answer: dict[str, Any]) -> dict[str, Any]:
    """Validate an answer against the schema, which agents leave to the provider."""
    validator = Draft202012Validator(SCHEMA)
    if reason := reason_against(validator, answer):
        raise ModelRetry(f"The answer does not fit the schema: {reason}")
    return answer


async def _compare(
    server: Server, agents: PydanticAIStrategy[Any], lean: ModelStrategy[Any], replies: list[Reply]
) -> None:
    server.script(*replies)
    expected = await attempt(agents)
    asked = [call.body for call in server.calls]
    server.script(*replies)
    assert await attempt(lean) == expected
    assert [call.body for call in server.calls][len(asked) :] == asked
