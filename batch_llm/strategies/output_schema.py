"""Shape of structured output: the JSON Schema that is sent to the model, and the parser of its answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Union, cast

from .answer_json import read_json, read_object
from .schema_types import check_numbers, check_references, resolved, types_of

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AnswerShape:
    """Shape of one kind of structured output.

    Attributes:
        schema: JSON Schema of an object; providers accept no other type.
        name: Name of the output that is sent to the model.
        description: Description of the output that is sent to the model.
        parse: Function that turns the JSON of an answer into the output. It raises `ValueError` if the answer is
            invalid, either pydantic's or one with a message for the model.
    """

    schema: Json
    name: str | None
    description: str | None
    parse: Callable[[str], Any]


def shape_of(output_type: Any) -> AnswerShape:
    """Return the shape of a type that pydantic supports, or of a JSON Schema of type object.

    Raises:
        pydantic_ai.UserError: The JSON Schema does not describe an object.
        LookupError: A reference in the JSON Schema cannot be resolved.
        pydantic.errors.PydanticUserError: The type cannot be converted to a JSON Schema.
    """
    if isinstance(output_type, dict):
        return _of_schema(cast("Json", output_type))
    return _of_type(output_type)


def _of_schema(schema: Json) -> AnswerShape:
    whole = resolved(schema)
    name = str(whole.get("title") or "answer")
    return _told(_as_told(whole, name), name, schema_reader(schema))


def check_shape(schema: Json) -> None:
    """Check that a JSON Schema can be the shape of an answer; unlike `shape_of`, it does not import pydantic-ai.

    Raises:
        LookupError: The schema does not describe an object, or a reference in it cannot be resolved.
    """
    whole = resolved(schema)
    check_references(whole)
    if whole.get("type") != "object":
        raise LookupError("type is not object")
    schema_reader(schema)


def schema_reader(schema: Json) -> Callable[[str], Json]:
    """Return a function that parses the text of an answer as an object that matches a JSON Schema.

    The function raises `ValueError`, with a message for the model, if there is no such object or if one of its numbers
    is too large for a column.
    """
    from jsonschema import Draft202012Validator
    from pydantic import TypeAdapter

    validator = Draft202012Validator(schema)
    anything: TypeAdapter[Json] = TypeAdapter(Json)
    types = {name: types_of(field, schema) for name, field in resolved(schema)["properties"].items()}

    def fit(text: str) -> Json:
        try:
            answer = read_json(text)
        except json.JSONDecodeError:
            answer = anything.validate_json(text)  # raises with pydantic's wording, which models know
        try:
            reason = reason_against(validator, answer)
        except RecursionError:
            reason = "it has too many levels"
        if reason:
            raise ValueError(f"The answer does not fit the schema: {reason}")
        check_numbers(answer, types)
        return answer

    return lambda text: read_object(text, fit, types)


def _as_told(schema: Json, name: str) -> Json:
    """Return a JSON Schema as it is sent to the model: with definitions only if it is recursive."""
    from pydantic import TypeAdapter
    from pydantic_ai import StructuredDict
    from pydantic_ai.exceptions import UserError

    check_references(schema)
    described = {"description": schema["description"]} if "description" in schema else {}
    try:
        return _schema(TypeAdapter(StructuredDict(dict(schema), name=name))) | described
    except (UserError, LookupError):
        if schema.get("type") != "object":
            raise
        return {**schema, "title": name}


def _of_type(output_type: Any) -> AnswerShape:
    from pydantic import Json as JsonText
    from pydantic import TypeAdapter

    adapter: TypeAdapter[Any] = TypeAdapter(output_type)
    schema = _schema(adapter)
    name = getattr(output_type, "__name__", None)
    if schema.get("type") == "object" and "properties" in schema:
        return _told(schema, schema.get("title") or name, _reader(adapter.validate_json, schema))
    wrapped = _schema(TypeAdapter(_wrapper(output_type)))
    del wrapped["title"]  # it is useless to the model
    # Some models write such a value as a string of JSON inside the JSON.
    lenient = _wrapper(Union[output_type, JsonText[output_type]])  # noqa: UP007  not every type supports `|`
    return _told(wrapped, name, _reader(lambda text: lenient.model_validate_json(text).response, wrapped))


def _reader(validate: Callable[[str], Any], schema: Json) -> Callable[[str], Any]:
    def fit(text: str) -> Any:
        with suppress(json.JSONDecodeError):  # pydantic reports it with a wording that models know
            read_json(text)  # pydantic accepts NaN, and a key with two values
        return validate(text)

    return lambda text: read_object(text, fit, schema["properties"])


def _wrapper(annotation: Any) -> Any:
    from pydantic import create_model

    return create_model("Answer", response=(annotation, ...))


def _told(schema: Json, name: str | None, parse: Callable[[str], Any]) -> AnswerShape:
    return AnswerShape(schema, name, schema.pop("description", None), parse)


def _schema(adapter: Any) -> Json:
    """Return the JSON Schema of a type as pydantic-ai's agents send it: without titles of properties."""
    from pydantic_ai.tools import GenerateToolJsonSchema

    schema: Json = adapter.json_schema(schema_generator=GenerateToolJsonSchema)
    if reference := schema.get("$ref"):  # a type that contains itself
        named: Json = schema["$defs"][reference.removeprefix("#/$defs/")]
        return {**named, "$defs": schema["$defs"]}
    return schema


def reason_against(validator: Any, answer: Any) -> str | None:
    """Return why `answer` does not match the schema of a jsonschema `validator`; None if it matches."""
    error = next(validator.iter_errors(answer), None)
    if error is None:
        return None
    place = ".".join(str(part) for part in error.absolute_path)
    return f"{place}: {error.message}" if place else error.message
