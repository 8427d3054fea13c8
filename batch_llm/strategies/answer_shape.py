"""What an answer has to be: the JSON Schema that a model is given, and how its text becomes the output."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Union, cast

Json = dict[str, Any]

# A model that is only asked for JSON, not bound to it, likes to show it as a block of Markdown.
_FENCED = re.compile(r"```(?:\w+)?\r?\n(\{.*?\})\s*(?:\r?\n?```|\Z)", flags=re.DOTALL)


@dataclass(frozen=True, slots=True)
class AnswerShape:
    """One structured output.

    Attributes:
        schema: JSON Schema of an object, for providers take no other.
        name: What the model is told that it is called.
        description: What the model is told that it is for.
        parse: Turns the answer's JSON into the output.
            Raises `ValueError` where it does not fit: pydantic's, or one whose text is for the model to read.
    """

    schema: Json
    name: str | None
    description: str | None
    parse: Callable[[str], Any]


def shape_of(output_type: Any) -> AnswerShape:
    """Return the shape of a type that pydantic knows, or of a JSON Schema of type object.

    Raises:
        pydantic_ai.UserError: The JSON Schema describes something else than an object, or refers to itself.
        pydantic.errors.PydanticUserError: The type cannot be told as JSON Schema.
    """
    if isinstance(output_type, dict):
        return _of_schema(cast("Json", output_type))
    return _of_type(output_type)


def _of_schema(schema: Json) -> AnswerShape:
    from jsonschema import Draft202012Validator
    from pydantic_ai import StructuredDict

    name = str(schema.get("title") or "answer")
    shape = _of_type(StructuredDict(dict(schema), name=name, description=schema.get("description")))
    validator = Draft202012Validator(schema)

    def parse(text: str) -> Json:
        answer = shape.parse(text)
        if reason := reason_against(validator, answer):
            raise ValueError(f"The answer does not fit the schema: {reason}")
        return answer

    return AnswerShape(shape.schema, shape.name, shape.description, parse)


def _of_type(output_type: Any) -> AnswerShape:
    from pydantic import Json as JsonText
    from pydantic import TypeAdapter

    adapter: TypeAdapter[Any] = TypeAdapter(output_type)
    schema = _schema(adapter)
    name = getattr(output_type, "__name__", None)
    if schema.get("type") == "object" and "properties" in schema:
        return _told(schema, schema.get("title") or name, lambda text: adapter.validate_json(_unfenced(text)))
    wrapped = _schema(TypeAdapter(_wrapper(output_type)))
    del wrapped["title"]  # it would tell the model nothing
    # Some models write such a value as a string of JSON within the JSON.
    lenient = _wrapper(Union[output_type, JsonText[output_type]])  # noqa: UP007  a type may be no operand of `|`
    return _told(wrapped, name, lambda text: lenient.model_validate_json(_unfenced(text)).response)


def _wrapper(annotation: Any) -> Any:
    from pydantic import create_model

    return create_model("Answer", response=(annotation, ...))


def _told(schema: Json, name: str | None, parse: Callable[[str], Any]) -> AnswerShape:
    return AnswerShape(schema, name, schema.pop("description", None), parse)


def _schema(adapter: Any) -> Json:
    """Return the type's JSON Schema as pydantic-ai's agents tell it: without titles of properties."""
    from pydantic_ai.tools import GenerateToolJsonSchema

    schema: Json = adapter.json_schema(schema_generator=GenerateToolJsonSchema)
    if reference := schema.get("$ref"):  # a type that contains itself
        named: Json = schema["$defs"][reference.removeprefix("#/$defs/")]
        return {**named, "$defs": schema["$defs"]}
    return schema


def _unfenced(text: str) -> str:
    if text.startswith("{"):
        return text
    fenced = _FENCED.search(text)
    return fenced[1] if fenced else text


def reason_against(validator: Any, answer: Any) -> str | None:
    """Return why `answer` does not fit the schema of a jsonschema `validator`; None where it fits."""
    error = next(validator.iter_errors(answer), None)
    if error is None:
        return None
    place = ".".join(str(part) for part in error.absolute_path)
    return f"{place}: {error.message}" if place else error.message
