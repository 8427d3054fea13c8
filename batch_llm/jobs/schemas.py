"""JSON Schemas of answers: validation, and the columns that a schema produces."""

from __future__ import annotations

from typing import Any, cast

from batch_llm.strategies.schema_types import is_scalar, resolved, types_of

# DuckDB types of JSON types that fit into one column; all other types stay JSON.
_COLUMN_TYPES = {
    frozenset({"string"}): "VARCHAR",
    frozenset({"integer"}): "BIGINT",
    frozenset({"integer", "number"}): "DOUBLE",
    frozenset({"boolean"}): "BOOLEAN",
    frozenset[str](): "VARCHAR",
}


def check_schema(schema: dict[str, Any]) -> None:
    """Check that `schema` is a valid JSON Schema of an object with named properties.

    Raises:
        ValueError: The schema is not valid, or does not describe an object with properties.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = ".".join(str(part) for part in error.absolute_path) or "its top level"
        raise ValueError(f"it is not a valid JSON Schema, at {place}: {error.message}") from error
    try:
        whole = resolved(schema)
    except LookupError as error:
        raise ValueError(str(error.args[0])) from error
    if whole.get("type") != "object" or not whole.get("properties"):
        raise ValueError('it must describe an object with properties: {"type": "object", "properties": {...}}')
    if any("\0" in name for name in whole["properties"]):
        raise ValueError("the name of a property contains a NUL character, which outputs do not support")


def answer_columns(schema: dict[str, Any] | None, *, typed: bool = True) -> dict[str, str]:
    """Return the fields of an answer and their DuckDB types; without a schema, one field called `answer`.

    References, unions and constants are resolved: text or null, as pydantic writes `Optional[str]`, is text.

    Args:
        schema: The job's schema.
        typed: Whether values of one column may have different types, as in JSON lines. In a table, a field that may be
            text, such as one of any type, is stored as text: strings as they are, other values as JSON. A field of
            objects or lists is always JSON.
    """
    if schema is None:
        return {"answer": "VARCHAR"}
    properties = cast("dict[str, Any]", resolved(schema)["properties"])
    return {name: _column_type(types_of(field, schema), typed=typed) for name, field in properties.items()}


def _column_type(types: frozenset[str], *, typed: bool) -> str:
    mixed = "JSON" if typed or not (is_scalar(types) or "string" in types) else "VARCHAR"
    return _COLUMN_TYPES.get(types - {"null"}, mixed)
