"""Limits that users set for a scope: Prefect Variables, shown and changed in the UI or by `batch-llm limit`.

`batch_llm_limit_<scope>` is `{"scope": ..., "requests_per_minute": 3000, "tokens_per_minute": null, ...}`; in its name,
characters that are neither letters nor digits become `_`. Where a job sets the same limit, the lower one applies.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import asdict, fields
from typing import Any, cast

from prefect.variables import Variable
from pydantic import TypeAdapter

from batch_llm.config import Limits
from batch_llm.prefect.api import api

PREFIX = "batch_llm_limit_"
_LIMITS = TypeAdapter(Limits)


def slug(scope: str) -> str:
    """Return a scope's name in the characters that Prefect allows in names."""
    return re.sub("[^a-z0-9]+", "_", scope.lower()).strip("_")


def variable_name(scope: str) -> str:
    """Return the name of the Variable that holds a scope's limits."""
    return PREFIX + slug(scope)


def to_value(scope: str, limits: Limits) -> dict[str, Any]:
    """Return the value of the Variable for these limits."""
    return {"scope": scope, **asdict(limits)}


def from_value(value: object) -> Limits:
    """Return the limits in the value of a Variable, which a user may have typed.

    Raises:
        ValueError: The value is not an object, or has an unknown name or a value that is not a number.
    """
    if isinstance(value, str):
        value = json.loads(value)
    if not isinstance(value, dict):
        raise ValueError(f"it is {value!r}; it must be an object such as {{'requests_per_minute': 3000}}")
    stated: dict[str, Any] = {str(name): number for name, number in value.items() if name != "scope"}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  from JSON
    return _LIMITS.validate_python(stated)


def merged(stated: Limits | None, own: Limits) -> Limits:
    """Return the limits in force: for each limit, the lower of the scope's and the job's."""
    if stated is None:
        return own
    set_of = {limit.name: [getattr(stated, limit.name), getattr(own, limit.name)] for limit in fields(Limits)}
    known = {name: [number for number in numbers if number is not None] for name, numbers in set_of.items()}
    return Limits(**{name: min(numbers) for name, numbers in known.items() if numbers})


def conflicts(scope: str, stated: Limits | None, own: Limits) -> list[str]:
    """Return a sentence for each limit that the scope and the job set differently: which one applies, and why."""
    found: list[str] = []
    for name in (limit.name for limit in fields(Limits)):
        ours, theirs = getattr(own, name), getattr(stated, name, None)
        if ours is None or theirs is None or ours == theirs:
            continue
        run, shared = f"`limits` of the run ({ours:,.0f})", f"`batch-llm limit` for {scope} ({theirs:,.0f})"
        lower, higher = (run, shared) if ours < theirs else (shared, run)
        found.append(f"{name.replace('_', ' ')}: {lower} applies, because it is lower than {higher}.")
    return found


def conflicts_of(scope: str, own: Limits) -> list[str]:
    """Return a sentence for each limit that the job and the server set differently now."""
    value: Any = None
    with suppress(Exception):  # a report without them is better than none
        value = Variable.get(variable_name(scope))
    with suppress(ValueError):
        return conflicts(scope, None if value is None else from_value(value), own)
    return []


def save(scope: str, limits: Limits) -> None:
    """Save the limits of a scope; all runs of the scope use them from now on."""
    with api():
        Variable.set(variable_name(scope), to_value(scope, limits), tags=["batch-llm"], overwrite=True)


def clear(scope: str) -> bool:
    """Remove the limits of a scope; return whether there were any."""
    with api():
        return cast("bool", Variable.unset(variable_name(scope)))  # typed for sync and async; here it is synchronous


def all_stated() -> dict[str, object]:
    """Return the values of all limit Variables by scope, not validated."""
    with api() as client:
        wanted = {"variables": {"name": {"like_": PREFIX}}, "sort": "NAME_ASC"}
        found = cast("list[dict[str, Any]]", client.request("POST", "/variables/filter", json=wanted).json())
    return {_scope(variable): variable["value"] for variable in found if variable["name"].startswith(PREFIX)}


def _scope(variable: dict[str, Any]) -> str:
    value: dict[str, Any] = variable["value"]
    try:
        return str(value["scope"])
    except (TypeError, KeyError):  # created by hand
        return str(variable["name"]).removeprefix(PREFIX)
