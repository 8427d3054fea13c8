"""A job's calls through a pydantic-ai agent: instructions, settings, the answer's shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic_ai import Agent, ModelRetry, NativeOutput, StructuredDict
from pydantic_ai.models import Model
from pydantic_ai.settings import ModelSettings

from batch_llm.strategies.base import LLMCallStrategy
from batch_llm.strategies.pydantic_ai import PydanticAIStrategy

from .job import BatchJob
from .owned import OwnedClient
from .schemas import reason_against


def agent_strategy(job: BatchJob, model: Model, settings: Mapping[str, Any]) -> LLMCallStrategy[Any]:
    """Return a strategy that asks `model`, and asks again within the attempt when the answer has another shape."""
    agent = _agent(job, model, settings)
    return OwnedClient(PydanticAIStrategy(agent), agent)


def _agent(job: BatchJob, model: Model, settings: Mapping[str, Any]) -> Agent[None, Any]:
    # The engine retries: a client that does so too would hide rate limits from it and multiply the calls.
    bound = cast("ModelSettings", {**settings, "max_retries": 0})
    instructions = job.instructions or None
    if job.output_schema is None:
        return Agent(model, output_type=str, instructions=instructions, model_settings=bound)
    schema = job.output_schema
    shape = StructuredDict(schema, name=str(schema.get("title") or "answer"), description=schema.get("description"))
    native = bool(model.profile.get("supports_json_schema_output"))
    output_type: Any = NativeOutput(shape) if native else shape
    agent: Agent[None, Any] = Agent(model, output_type=output_type, instructions=instructions, model_settings=bound)

    @agent.output_validator
    def fits(answer: dict[str, Any]) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]  the agent calls it
        if reason := reason_against(schema, answer):
            raise ModelRetry(f"The answer does not fit the schema: {reason}")
        return answer

    return agent
