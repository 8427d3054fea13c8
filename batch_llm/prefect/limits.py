"""The limits that people state for a scope: Prefect Variables, seen and changed in the UI, or by `batch-llm limit`.

`batch_llm_limit_<scope>` is `{"scope": ..., "requests_per_minute": 3000, "tokens_per_minute": null, ...}`; in its name,
what is neither a letter nor a digit is `_`. What stands there wins over what a job says.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields
from typing import Any, cast

from prefect.variables import Variable
from pydantic import TypeAdapter

from batch_llm.config import Limits

from .server import api

PREFIX = "batch_llm_limit_"
_LIMITS = TypeAdapter(Limits)


def slug(scope: str) -> str:
    """Return a scope's name as Prefect takes it in names."""
    return re.sub("[^a-z0-9]+", "_", scope.lower()).strip("_")


def variable_name(scope: str) -> str:
    """Return the name of the Variable that holds a scope's limits."""
    return PREFIX + slug(scope)


def to_value(scope: str, limits: Limits) -> dict[str, Any]:
    """Return what stands in the Variable."""
    return {"scope": scope, **asdict(limits)}


def from_value(value: object) -> Limits:
    """Return the limits that a Variable states, which a person may have typed.

    Raises:
        ValueError: It states none: not an object, an unknown name, not a number.
    """
    if isinstance(value, str):
        value = json.loads(value)
    if not isinstance(value, dict):
        raise ValueError(f"it is {value!r}; it must be an object such as {{'requests_per_minute': 3000}}")
    stated: dict[str, Any] = {str(name): number for name, number in value.items() if name != "scope"}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  from JSON
    return _LIMITS.validate_python(stated)


def merged(stated: Limits | None, own: Limits) -> Limits:
    """Return the limits in force: what is stated for the scope, else what the job says, one by one."""
    if stated is None:
        return own
    names = [limit.name for limit in fields(Limits)]
    numbers = {name: getattr(stated, name) for name in names}
    return Limits(**{name: getattr(own, name) if number is None else number for name, number in numbers.items()})


def state(scope: str, limits: Limits) -> None:
    """Let everybody who works under `scope` keep to `limits`, from now on."""
    with api():
        Variable.set(variable_name(scope), to_value(scope, limits), tags=["batch-llm"], overwrite=True)


def clear(scope: str) -> bool:
    """State nothing for `scope` any more; whether anything was stated."""
    with api():
        return cast("bool", Variable.unset(variable_name(scope)))  # typed for both worlds; here it is synchronous


def all_stated() -> dict[str, object]:
    """Return what is stated, as it stands there, by scope."""
    with api() as client:
        wanted = {"variables": {"name": {"like_": PREFIX}}, "sort": "NAME_ASC"}
        found = cast("list[dict[str, Any]]", client.request("POST", "/variables/filter", json=wanted).json())
    return {_scope(variable): variable["value"] for variable in found if variable["name"].startswith(PREFIX)}


def _scope(variable: dict[str, Any]) -> str:
    value: dict[str, Any] = variable["value"]
    try:
        return str(value["scope"])
    except (TypeError, KeyError):  # made by hand
        return str(variable["name"]).removeprefix(PREFIX)
