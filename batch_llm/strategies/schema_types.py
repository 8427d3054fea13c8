"""Types and properties that a JSON Schema allows, resolved through references, unions and constants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast
from urllib.parse import unquote

Json = dict[str, Any]

ANY_TYPE = frozenset({"string", "integer", "number", "boolean", "null", "object", "array"})
_LARGEST_INTEGER = 2**63 - 1
"""Largest value in a column of integers: databases and Parquet files use 64 bits."""


def resolved(schema: Json) -> Json:
    """Return the schema of an object with its properties at the top level.

    Pydantic writes a recursive type as a reference at the top level, and a reference with a description as an `allOf`
    of one schema. Keys next to the reference are kept, and definitions are not moved.

    Raises:
        LookupError: A reference cannot be resolved.
    """
    found, seen = schema, set[str]()
    while "properties" not in found:
        parts = found.get("allOf")
        if isinstance(reference := found.get("$ref"), str) and reference not in seen:
            seen.add(reference)
            inner: Any = lookup(schema, reference)
        elif isinstance(parts, list) and len(cast("list[Any]", parts)) == 1:
            inner = cast("list[Any]", parts)[0]
        else:
            break
        if not isinstance(inner, dict):
            break
        beside = {key: value for key, value in found.items() if key not in ("$ref", "allOf")}
        found = {**cast("Json", inner), **beside}
    return found


def check_references(schema: Json) -> None:
    """Check that every reference in a schema can be resolved.

    Raises:
        LookupError: A reference cannot be resolved, or refers only to itself.
    """
    for reference in _references(schema):
        seen: set[str] = set()
        target: Any = {"$ref": reference}
        while isinstance(target, dict) and isinstance(again := cast("Json", target).get("$ref"), str):
            if again in seen:
                raise LookupError(f"$ref {again!r} refers to itself")
            seen.add(again)
            target = lookup(schema, again)


def lookup(schema: Json, reference: str) -> Any:
    """Return the target of a reference such as `#/$defs/Mood`.

    Raises:
        LookupError: The target does not exist, or is outside the schema.
    """
    if not reference.startswith("#"):
        raise LookupError(f"$ref {reference!r} is outside the schema")
    found: Any = schema
    for step in reference.removeprefix("#").split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(found, list):
            found = cast("list[Any]", found)[int(name)] if name.isdecimal() else None
        else:
            found = cast("Json", found).get(name) if isinstance(found, dict) else None
        if found is None:
            raise LookupError(f"$ref {reference!r} does not exist in the schema")
    return found


def types_of(field: Any, schema: Json) -> frozenset[str]:
    """Return the JSON types that the values of a field may have, including `null`; "number" implies "integer".

    Args:
        field: Schema of the field.
        schema: The whole schema, for references.
    """
    return _types_of(field, schema, ())


def _types_of(field: Any, schema: Json, within: tuple[str, ...]) -> frozenset[str]:
    if not isinstance(field, dict):
        return ANY_TYPE
    rules = cast("Json", field)
    types = _named(rules.get("type"))
    if isinstance(reference := rules.get("$ref"), str) and reference not in within:
        try:
            target = lookup(schema, reference)
        except LookupError:
            target = None
        types &= _types_of(target, schema, (*within, reference))
    for union in ("anyOf", "oneOf"):
        if isinstance(members := rules.get(union), list):
            types &= frozenset[str]().union(*(_types_of(each, schema, within) for each in cast("list[Any]", members)))
    if isinstance(parts := rules.get("allOf"), list):
        types = types.intersection(*(_types_of(part, schema, within) for part in cast("list[Any]", parts)))
    if "const" in rules:
        types &= _type_of(rules["const"])
    if isinstance(values := rules.get("enum"), list):
        types &= frozenset[str]().union(*map(_type_of, cast("list[Any]", values)))
    return types | {"null"} if rules.get("nullable") is True else types


def _named(kind: Any) -> frozenset[str]:
    """Return the types that the keyword `type` lists, or all types if it is missing."""
    names: list[Any] = cast("list[Any]", kind) if isinstance(kind, list) else [kind]
    known = frozenset(str(name).lower() for name in names if isinstance(name, str))
    if not known:
        return ANY_TYPE
    return known | {"integer"} if "number" in known else known


def _type_of(value: Any) -> frozenset[str]:
    match value:
        case None:
            return frozenset({"null"})
        case bool():
            return frozenset({"boolean"})
        case int():
            return frozenset({"integer"})
        case float():
            return frozenset({"integer", "number"})
        case str():
            return frozenset({"string"})
        case list():
            return frozenset({"array"})
        case _:
            return frozenset({"object"})


def check_numbers(answer: Mapping[str, Any], types: Mapping[str, frozenset[str]]) -> None:
    """Check that no number of an answer is too large for its column, which would contain null instead.

    Args:
        answer: The answer.
        types: Types of each field, from `types_of`.

    Raises:
        ValueError: A number is too large; the message is written for the model.
    """
    for name, kinds in types.items():
        value = answer.get(name)
        if type(value) is not int:
            continue
        if "number" in kinds and "string" not in kinds:
            too_large = abs(value) > 10**308
        else:
            too_large = "integer" in kinds and not -_LARGEST_INTEGER - 1 <= value <= _LARGEST_INTEGER
        if too_large:
            raise ValueError(f"{name}: {str(value)[:40]} is too large; the largest integer is {_LARGEST_INTEGER}")


def is_scalar(types: frozenset[str]) -> bool:
    """Return whether the types include neither objects nor arrays."""
    return not types & {"object", "array"}


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in cast("Json", value).items():
            if key == "$ref" and isinstance(inner, str):
                yield inner
            elif key not in ("const", "enum", "default", "examples"):
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in cast("list[Any]", value):
            yield from _references(inner)
