"""Fields of a job as parameters of a flow, so that the form in the UI shows titles, descriptions and defaults."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from prefect.logging import get_run_logger
from prefect.variables import Variable
from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob

from .api import one_line
from .form import SettingsGroup

F = TypeVar("F", bound=Callable[..., Any])


def parameters_of(model: type[BaseModel]) -> Callable[[F], F]:
    """Return a decorator that gives a function with `**parameters` a keyword-only parameter per field of `model`.

    Example:
        Below `@flow`::

            @flow(validate_parameters=False)
            @parameters_of(BatchJob)
            def batch(**parameters: Any) -> None: ...
    """

    def decorate(function: F) -> F:
        parameters = [_parameter(name, field) for name, field in model.model_fields.items()]
        function.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]  PEP 362
        return function

    return decorate


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    # Prefect uses the name as the title; only `json_schema_extra` overrides that.
    shown = Field(json_schema_extra={"title": field.title or name, "description": field.description or ""})
    default: Any = inspect.Parameter.empty
    if not field.is_required():
        default = field.get_default(call_default_factory=True, validated_data={})
    annotation = Annotated[field.rebuild_annotation(), shown, SettingsGroup()]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


VARIABLE = "batch_llm_settings"

_OF_EACH_RUN = {"name", "source", "prompt", "output"}
_ANY_JOB = {"source": "samples", "prompt": "{text}", "output": "out.jsonl"}


def with_common_settings(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a run; those at their defaults get the value of the Variable `batch_llm_settings`.

    Raises:
        JobError: The Variable cannot be read, or has an invalid setting.
    """
    common = {name: value for name, value in _read().items() if _is_default(name, parameters)}
    for name, value in common.items():
        get_run_logger().info("The Variable %s sets %s to %s", VARIABLE, name, json.dumps(value))
    return {**parameters, **common}


def _read() -> dict[str, Any]:
    try:
        value: Any = Variable.get(VARIABLE)
    except Exception as error:  # a run without the budget that users rely on is worse
        raise JobError(f"the Variable {VARIABLE} cannot be read: {one_line(error)}") from error
    if value is None:
        return {}
    common = _object(value)
    try:
        BatchJob.parse(_ANY_JOB | common)
    except JobError as error:
        raise JobError(f"the Variable {VARIABLE}: {error}") from error
    if own := sorted(common.keys() & _OF_EACH_RUN):
        raise JobError(f"the Variable {VARIABLE} sets {', '.join(own)}, which each preset sets itself: remove it")
    return common


def _object(value: Any) -> dict[str, Any]:
    try:
        value = json.loads(value) if isinstance(value, str) else value  # `prefect variable set` stores a string
        return {**value}
    except (TypeError, ValueError):
        raise JobError(f'the Variable {VARIABLE} must be an object such as {{"budget_tokens": 1000000}}') from None


def _is_default(name: str, parameters: Mapping[str, Any]) -> bool:
    field = BatchJob.model_fields[name]
    return name not in parameters or parameters[name] == field.get_default(call_default_factory=True, validated_data={})
