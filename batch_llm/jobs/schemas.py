"""The shape of an answer: what is a usable JSON Schema, and which columns it gives."""

from __future__ import annotations

from typing import Any, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from batch_llm.strategies.schema_types import is_scalar, resolved, types_of

# DuckDB types of the JSON types that fit into one column; everything else stays JSON.
_COLUMN_TYPES = {
    frozenset({"string"}): "VARCHAR",
    frozenset({"integer"}): "BIGINT",
    frozenset({"integer", "number"}): "DOUBLE",
    frozenset({"boolean"}): "BOOLEAN",
    frozenset[str](): "VARCHAR",
}


def check_schema(schema: dict[str, Any]) -> None:
    """See that `schema` describes an object with named properties.

    Raises:
        ValueError: It is no JSON Schema, or describes something else than an object.
    """
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = ".".join(str(part) for part in error.absolute_path) or "its top level"
        raise ValueError(f"it is no JSON Schema, at {place}: {error.message}") from error
    try:
        whole = resolved(schema)
    except LookupError as error:
        raise ValueError(str(error.args[0])) from error
    if whole.get("type") != "object" or not whole.get("properties"):
        raise ValueError('it must describe an object with properties: {"type": "object", "properties": {...}}')
    if any("\0" in name for name in whole["properties"]):
        raise ValueError("a property's name has the character NUL in it, which no output can have")


def answer_columns(schema: dict[str, Any] | None, *, typed: bool = True) -> dict[str, str]:
    """Return the answer's fields and their DuckDB types; plain text is one field called `answer`.

    References, unions and constants are followed: text or null, as pydantic writes `Optional[str]`, is text.

    Args:
        schema: The job's schema.
        typed: Whether values of a column may have different types, as in JSON lines. In a table, a field that is text
            or a number is text; one that may be an object or a list is JSON in both.
    """
    if schema is None:
        return {"answer": "VARCHAR"}
    properties = cast("dict[str, Any]", resolved(schema)["properties"])
    return {name: _column_type(types_of(field, schema), typed=typed) for name, field in properties.items()}


def _column_type(types: frozenset[str], *, typed: bool) -> str:
    mixed = "JSON" if typed or not is_scalar(types) else "VARCHAR"
    return _COLUMN_TYPES.get(types - {"null"}, mixed)
