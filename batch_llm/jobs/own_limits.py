"""A job's limits: one set for its model, or one for each model's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from batch_llm.config import Limits

LIMIT_NAMES = tuple(limit.name for limit in fields(Limits))


class OrForEach:
    """Says in a form that there may be an object for each model's name, too."""

    @staticmethod
    def __get_pydantic_json_schema__(core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        one = handler(core)
        return {"anyOf": [one, {"type": "object", "additionalProperties": one}]}


def own_limits(limits: object, model: str | None) -> object:
    """Return the set for one model, an empty one where there is none; what is one set already, unseen.

    Raises:
        ValueError: A set cannot be used; says which and why.
    """
    if not isinstance(limits, Mapping) or not limits:
        return limits  # pyright: ignore[reportUnknownVariableType]  whatever it is, pydantic looks at it
    sets = cast("Mapping[str, Any]", limits)
    if not all(isinstance(one, Mapping) for one in sets.values()):
        return sets
    for name, one in sets.items():
        if unknown := [limit for limit in one if limit not in LIMIT_NAMES]:
            raise ValueError(f"{name}: {unknown[0]!r} is no limit: there are {', '.join(LIMIT_NAMES)}")
        try:
            Limits(**one)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return sets.get(model or "", {})
