"""Answers that match a JSON Schema, which the servers give to requests for structured output."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def fit(schema: Json, text: str) -> Any:
    """Return a simple value that `schema` accepts; strings contain `text`, so that an answer shows its prompt.

    Knows both spellings of Gemini (`"STRING"` and `"string"`) and local references.
    """
    return _fit(schema, text, schema)


def _fit(schema: Json, text: str, root: Json) -> Any:
    if "$ref" in schema:
        return _fit(_resolve(schema["$ref"], root), text, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return _fit(schema[union][0], text, root)
    return _of_type(str(schema.get("type", "object")).lower(), schema, text, root)


def _of_type(kind: str, schema: Json, text: str, root: Json) -> Any:
    match kind:
        case "object":
            return {name: _fit(part, text, root) for name, part in schema.get("properties", {}).items()}
        case "array":
            return [_fit(schema.get("items", {}), text, root)] * max(1, schema.get("minItems", 1))
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return text[: schema.get("maxLength", len(text))].ljust(schema.get("minLength", 0), "x")


def _resolve(reference: str, root: Json) -> Json:
    found: Any = root
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return found
