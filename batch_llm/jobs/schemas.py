"""The shape of an answer: what is a usable JSON Schema, and which columns it gives."""

from __future__ import annotations

from typing import Any, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

# DuckDB types of the JSON Schema types that fit into one column; everything else stays JSON.
_COLUMN_TYPES = {"string": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN"}


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
    if schema.get("type") != "object" or not schema.get("properties"):
        raise ValueError('it must describe an object with properties: {"type": "object", "properties": {...}}')


def answer_columns(schema: dict[str, Any] | None) -> dict[str, str]:
    """Return the answer's fields and their DuckDB types; plain text is one field called `answer`."""
    if schema is None:
        return {"answer": "VARCHAR"}
    properties = cast("dict[str, Any]", schema["properties"])
    return {name: _column_type(field) for name, field in properties.items()}


def _column_type(field: Any) -> str:
    kind: Any = cast("dict[str, Any]", field).get("type") if isinstance(field, dict) else None
    if isinstance(kind, list):  # ["string", "null"]
        kinds = [name for name in cast("list[Any]", kind) if name != "null"]
        kind = kinds[0] if len(kinds) == 1 else None
    return _COLUMN_TYPES.get(kind, "JSON") if isinstance(kind, str) else "JSON"
