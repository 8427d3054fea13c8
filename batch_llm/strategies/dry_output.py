"""Makes the output of a dry run: an object of the type that a strategy returns, without a call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from .output_schema import shape_of

_DEEPEST = 20
"""Nested schemas are followed so far; a schema that requires itself has no finite object."""

_PLAIN: dict[str, Any] = {"boolean": False, "null": None}
_FORMATS = {
    "date": "2000-01-01",
    "date-time": "2000-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "PT0S",
    "email": "dry-run@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def dry_output(output_type: Any, prompt: str) -> Any:
    """Return an object of `output_type`, from its schema or made without arguments, else a text."""
    text = f"dry run of {prompt:.100}"
    if output_type is str:
        return text
    try:
        shape = shape_of(output_type)
        return shape.parse(json.dumps(_sample(shape.schema, shape.schema)))
    except Exception:  # the type has no schema, or a rule of its own that the sample breaks
        try:
            return output_type()
        except Exception:
            return text


def _sample(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int = 0) -> Any:
    """Return a small value that fits the usual rules of a JSON Schema."""
    if depth > _DEEPEST:
        raise ValueError("the schema is nested too deeply")
    if "$ref" in schema:
        target: Any = root
        for part in cast("str", schema["$ref"]).removeprefix("#").strip("/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")] if part else target
        return _sample(target, root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if "default" in schema:
        return schema["default"]
    for choices in ("enum", "examples"):
        if schema.get(choices):
            return schema[choices][0]
    for choices in ("anyOf", "oneOf", "allOf"):
        if schema.get(choices):
            return _sample(schema[choices][0], root, depth + 1)
    kind: Any = schema.get("type", "object" if "properties" in schema else "string")
    return _of_type(kind if isinstance(kind, str) else kind[0], schema, root, depth)


def _of_type(kind: str, schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    if kind == "object":
        fields: Mapping[str, Any] = schema.get("properties", {})
        return {name: _sample(fields.get(name, {}), root, depth + 1) for name in schema.get("required", ())}
    if kind == "array":
        first: list[Any] = schema.get("prefixItems", [])
        items = [_sample(each, root, depth + 1) for each in first]
        more = max(0, schema.get("minItems", 0) - len(items))
        return items + [_sample(schema.get("items") or {}, root, depth + 1) for _ in range(more)]
    if kind == "string":
        text = _FORMATS.get(schema.get("format", ""), "dry run")
        return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]
    if kind in ("integer", "number"):
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        least = schema.get("minimum", 0 if above is None else above + 1)
        most = schema.get("maximum", least if below is None else below - 1)
        return most if most < least or (most < 0 and "minimum" not in schema) else least
    return _PLAIN[kind]
