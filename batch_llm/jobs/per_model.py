"""A job's limits: one set for its model, or one for each model's name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from batch_llm.config import Limits

LIMIT_NAMES = tuple(limit.name for limit in fields(Limits))


class PerModelSchema:
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


PRICE_NAMES = {
    "input_mtok": "input_mtok",
    "output_mtok": "output_mtok",
    "cached_input_mtok": "cache_read_mtok",
    "cache_write_mtok": "cache_write_mtok",
    "cache_write_1h_mtok": "cache_write_1h_mtok",
}
"""A job's names of prices, in USD per million tokens, and what genai-prices calls them."""


def check_prices(prices: Mapping[str, Any]) -> None:
    """See that prices can be used.

    Raises:
        ValueError: They cannot; says what is wrong.
    """
    sets = {"": prices} if _is_one_set(prices) else {f"{model}: ": prices[model] for model in prices}
    for place, one in sets.items():
        for name, value in cast("Mapping[str, object]", one).items():
            if name not in PRICE_NAMES:
                raise ValueError(f"{place}{name!r} is no price: there are {', '.join(PRICE_NAMES)}")
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ValueError(f"{place}{name} is {value!r}: it must be USD per million tokens, 0 or more")
        if missing := [name for name in ("input_mtok", "output_mtok") if name not in one]:
            raise ValueError(f"{place}{missing[0]} is missing: set it, in USD per million tokens")


def own_prices(prices: Mapping[str, Any] | None, model: str) -> Mapping[str, float] | None:
    """Return the set for one model; None where there is none."""
    return prices if prices is None or _is_one_set(prices) else prices.get(model)


def _is_one_set(prices: Mapping[str, Any]) -> bool:
    return not prices or not all(isinstance(value, Mapping) for value in prices.values())
