"""A job's fields as the parameters of a flow, so that the UI's form shows their titles, descriptions and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

F = TypeVar("F", bound=Callable[..., Any])


def parameters_of(model: type[BaseModel]) -> Callable[[F], F]:
    """Give a function that takes `**parameters` the signature of `model`: one flat, keyword-only parameter a field."""

    def decorate(function: F) -> F:
        parameters = [_parameter(name, field) for name, field in model.model_fields.items()]
        function.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]  PEP 362
        return function

    return decorate


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    # Prefect titles a parameter with its name; only `json_schema_extra` comes after that.
    shown = Field(json_schema_extra={"title": field.title or name, "description": field.description or ""})
    default: Any = inspect.Parameter.empty
    if not field.is_required():
        default = field.get_default(call_default_factory=True, validated_data={})
    annotation = Annotated[field.rebuild_annotation(), shown]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
