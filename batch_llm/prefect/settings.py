"""Settings for all runs at one Prefect server: a Variable, seen and changed in the UI.

`batch_llm_settings` is an object such as `{"monthly_budget_usd": 100}`. What a preset or a run sets itself wins.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from prefect.logging import get_run_logger
from prefect.variables import Variable

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob

from .server import one_line

VARIABLE = "batch_llm_settings"

_OF_EACH_RUN = {"name", "source", "prompt", "output"}
_ANY_JOB = {"source": "samples", "prompt": "{text}", "output": "out.jsonl"}


def with_common_settings(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's parameters, with what the Variable sets in the place of those that are at their defaults.

    Raises:
        JobError: The Variable cannot be read, or sets what a job cannot be.
    """
    common = {name: value for name, value in _read().items() if _is_default(name, parameters)}
    for name, value in common.items():
        get_run_logger().info("The Variable %s sets %s to %s", VARIABLE, name, json.dumps(value))
    return {**parameters, **common}


def _read() -> dict[str, Any]:
    try:
        value: Any = Variable.get(VARIABLE)
    except Exception as error:  # a run without the budget that everybody relies on would be worse
        raise JobError(f"the Variable {VARIABLE} cannot be read: {one_line(error)}") from error
    if value is None:
        return {}
    common = _object(value)
    try:
        BatchJob.parse(_ANY_JOB | common)
    except JobError as error:
        raise JobError(f"the Variable {VARIABLE}: {error}") from error
    if own := sorted(common.keys() & _OF_EACH_RUN):
        raise JobError(f"the Variable {VARIABLE} sets {', '.join(own)}, which each preset has of its own: leave it out")
    return common


def _object(value: Any) -> dict[str, Any]:
    try:
        value = json.loads(value) if isinstance(value, str) else value  # so it comes from `prefect variable set`
        return {**value}
    except (TypeError, ValueError):
        raise JobError(f'the Variable {VARIABLE} must be an object such as {{"budget_tokens": 1000000}}') from None


def _is_default(name: str, parameters: Mapping[str, Any]) -> bool:
    field = BatchJob.model_fields[name]
    return name not in parameters or parameters[name] == field.get_default(call_default_factory=True, validated_data={})
