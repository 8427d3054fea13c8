"""Dry runs answer with an object of the strategy's output type and make no call."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, field_validator
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from batch_llm import LLMWorkItem, ModelStrategy, ParallelBatchProcessor, ProcessorConfig, PydanticAIStrategy


class Tone(Enum):
    CALM = "calm"


class Part(BaseModel):
    name: Annotated[str, Field(min_length=12)]
    count: Annotated[int, Field(gt=3)]
    share: Annotated[float, Field(le=-1)]


class Summary(BaseModel):
    title: str
    tone: Tone
    kind: Literal["long", "short"]
    parts: Annotated[list[Part], Field(min_length=2)]
    note: str | None = None


class Strict(BaseModel):
    code: str

    @field_validator("code")
    @classmethod
    def check(cls, value: str) -> str:
        if not value.isdigit():
            raise ValueError("not a number")
        return value


@dataclass
class Point:
    x: int
    y: float


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def make(kind: str, output_type: Any) -> Any:
    model = TestModel()
    return (
        ModelStrategy(model, output_type=output_type)
        if kind == "model"
        else PydanticAIStrategy(Agent(model, output_type=output_type))
    )


@pytest.mark.parametrize("kind", ["model", "agent"])
@pytest.mark.parametrize("output_type", [Summary, Point])
async def test_a_dry_run_returns_an_object_of_the_output_type(kind: str, output_type: Any) -> None:
    async with ParallelBatchProcessor[Any, Any, Any](ProcessorConfig(dry_run=True)) as processor:
        await processor.add_work(LLMWorkItem("a", make(kind, output_type), "prompt"))
        (result,) = (await processor.process_all()).results
    assert result.success
    assert isinstance(result.output, output_type)


def test_a_dry_run_of_a_json_schema_returns_a_matching_dict() -> None:
    assert isinstance(make("model", SCHEMA).dry_run("prompt")["city"], str)


@pytest.mark.parametrize("kind", ["model", "agent"])
@pytest.mark.parametrize("output_type", [str, Strict])
def test_a_dry_run_returns_text_if_no_object_can_be_made(kind: str, output_type: Any) -> None:
    assert make(kind, output_type).dry_run("prompt") == "dry run of prompt"
