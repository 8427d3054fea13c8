"""Groups of settings in the form of the UI, such as those of the engine: each setting with its own description."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, cast

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

WITHOUT_EFFECT = {
    "ProcessorConfig": (
        "rate_limit",
        "progress_interval",
        "enable_detailed_logging",
        "max_queue_size",
        "dry_run",
        "hook_timeout",
    )
}
"""Settings of a class that a job does not use, or not as their defaults suggest. They remain valid in parameters."""

_ATTRIBUTE = re.compile(r"^    (\w+): (.+(?:\n     +.+)*)", re.MULTILINE)

_Schema = dict[str, Any]


class SettingsGroup:
    """Annotation of a parameter whose form describes the fields of a class, instead of showing its docstring."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        _describe(schema, handler.resolve_ref_schema)
        return schema


def _describe(schema: _Schema, resolve: Callable[[_Schema], _Schema]) -> None:
    if "$ref" in schema:
        schema = resolve(schema)
    fields: dict[str, _Schema] = schema.get("properties", {})
    docstring: str = schema.get("description", "")
    if fields and "Attributes:" in docstring:
        del schema["description"]
        known = {name: " ".join(text.split()) for name, text in _ATTRIBUTE.findall(docstring)}
        for name, field in fields.items():
            field["title"] = name.replace("_", " ").capitalize()
            if name in known:
                field["description"] = known[name].replace("`", "")
        for name in WITHOUT_EFFECT.get(schema.get("title", ""), ()):
            if fields.pop(name, None) is not None:
                schema["additionalProperties"] = True  # presets may have them
    for part in (*fields.values(), *_parts(schema)):
        _describe(part, resolve)


def _parts(schema: _Schema) -> Iterator[_Schema]:
    """Yield the alternatives and the values of a schema."""
    yield from cast("list[_Schema]", schema.get("anyOf", []))
    values: object = schema.get("additionalProperties")
    if isinstance(values, dict):
        yield cast("_Schema", values)
