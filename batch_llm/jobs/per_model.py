"""Limits and prices of a job: one object for its model, or one object per model."""

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
    """Schema of a setting that accepts one object, or one object per model."""

    @staticmethod
    def __get_pydantic_json_schema__(core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        one = handler(core)
        return {"anyOf": [one, {"type": "object", "additionalProperties": one}]}


def own_limits(limits: object, model: str | None) -> object:
    """Return the limits of one model; a value that is not one object per model is returned unchanged.

    Args:
        limits: Value of the setting `limits`.
        model: Name of the model; a model that is not listed has no limits.

    Raises:
        ValueError: The limits of a model are not valid; the message names the model and the reason.
    """
    if not isinstance(limits, Mapping) or not limits:
        return limits  # pyright: ignore[reportUnknownVariableType]  pydantic validates it
    sets = cast("Mapping[str, Any]", limits)
    if not all(isinstance(one, Mapping) for one in sets.values()):
        return sets
    for name, one in sets.items():
        if unknown := [limit for limit in one if limit not in LIMIT_NAMES]:
            raise ValueError(f"{name}: unknown limit {unknown[0]!r}: use {', '.join(LIMIT_NAMES)}")
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
"""Names of a job's prices (USD per million tokens) and the corresponding names in genai-prices."""


def check_prices(prices: Mapping[str, Any]) -> None:
    """Check the prices of a job.

    Raises:
        ValueError: A price is unknown, missing, not a number or negative.
    """
    sets = {"": prices} if _is_one_set(prices) else {f"{model}: ": prices[model] for model in prices}
    for place, one in sets.items():
        for name, value in cast("Mapping[str, object]", one).items():
            if name not in PRICE_NAMES:
                raise ValueError(f"{place}unknown price {name!r}: use {', '.join(PRICE_NAMES)}")
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ValueError(f"{place}{name} is {value!r}: it must be USD per million tokens, 0 or more")
        if missing := [name for name in ("input_mtok", "output_mtok") if name not in one]:
            raise ValueError(f"{place}{missing[0]} is missing: set it, in USD per million tokens")


def own_prices(prices: Mapping[str, Any] | None, model: str) -> Mapping[str, float] | None:
    """Return the job's own prices of one model; None if it has none."""
    return prices if prices is None or _is_one_set(prices) else prices.get(model)


def _is_one_set(prices: Mapping[str, Any]) -> bool:
    return not prices or not all(isinstance(value, Mapping) for value in prices.values())
