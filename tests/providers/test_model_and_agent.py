"""`ModelStrategy` beside `PydanticAIStrategy`: the same requests, outputs, tokens and categories."""

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


@pytest.mark.sample(12)
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
async def test_an_agent_would_do_the_same(
    both: tuple[Server, Model], replies: list[str | None], output_type: Any, agents: Any
) -> None:
    """Byte for byte the same requests, and the same output, tokens and category."""
    server, model = both
    agent: Agent[None, Any] = Agent(model, output_type=agents, instructions="Be brief.")
    if output_type is SCHEMA:
        agent.output_validator(_fits_the_schema)
    lean = ModelStrategy(model, output_type=output_type, instructions="Be brief.")
    await _compare(server, PydanticAIStrategy(agent), lean, [server.text(reply) for reply in replies])


@pytest.mark.sample(4)
@pytest.mark.parametrize("replies", REPLIES, ids=str)
@pytest.mark.parametrize(("mode", "marker"), [("tool", ToolOutput), ("prompted", PromptedOutput)])
async def test_a_model_without_native_output(
    openai_server: OpenAIServer, replies: list[str | None], mode: Any, marker: Any
) -> None:
    """It gets a tool, or words, as it does from an agent."""
    profile = {"supports_json_schema_output": False, "default_structured_output_mode": mode}
    async with openai_model(openai_server, **profile) as model:
        agent: Agent[None, Any] = Agent(model, output_type=marker(Book))
        lean = ModelStrategy(model, output_type=Book)
        await _compare(openai_server, PydanticAIStrategy(agent), lean, [OpenAIServer.text(reply) for reply in replies])


@pytest.mark.parametrize(
    "arguments", ['{"title": "t", "pages": 3}', '{"title": 5}', "{", "", '{"title": "LOUD", "pages": 2}']
)
async def test_the_tools_arguments(openai_server: OpenAIServer, arguments: str) -> None:
    """Arguments that do not fit are the call's to hear of."""
    async with openai_model(openai_server, supports_json_schema_output=False) as model:
        agent: Agent[None, Any] = Agent(model, output_type=Book)
        script = [OpenAIServer.calls_tool("final_result", arguments)]
        await _compare(openai_server, PydanticAIStrategy(agent), ModelStrategy(model, output_type=Book), script)


async def test_a_tool_that_does_not_exist(openai_server: OpenAIServer) -> None:
    """The call is answered all the same, without which the next request would be invalid."""
    async with openai_model(openai_server, supports_json_schema_output=False) as model:
        openai_server.script(OpenAIServer.calls_tool("search", '{"title": "fits", "pages": 3}'))
        outcome = await attempt(ModelStrategy(model, output_type=Book))
    assert (outcome.output, openai_server.requests) == (Book(title="one two three", pages=0), 2)
    assert openai_server.calls[1].body["messages"][-1]["role"] == "tool"


@pytest.mark.parametrize("mode", ["tool", "native", "prompted"])
async def test_one_of_several_models(openai_server: OpenAIServer, mode: Any) -> None:
    """The one that answers is asked as an agent asks it."""
    profile = {"supports_json_schema_output": mode == "native", "default_structured_output_mode": mode}
    async with openai_model(openai_server) as first, openai_model(openai_server, **profile) as second:
        model = FallbackModel(first, second)
        agent: Agent[None, Any] = Agent(model, output_type=Book)
        lean = ModelStrategy(model, output_type=Book)
        await _compare(openai_server, PydanticAIStrategy(agent), lean, [OpenAIServer.error(500, "down", None)])
        assert isinstance((await attempt(lean)).output, Book)


def _fits_the_schema(answer: dict[str, Any]) -> dict[str, Any]:
    """Agents leave the schema to the provider; this holds an answer to it."""
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
