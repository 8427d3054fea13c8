"""Types of a job's settings with the checks that pydantic's constraints cannot express."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, ValidationInfo

from batch_llm.config import Limits, ProcessorConfig

from .per_model import PerModelSchema, check_prices, own_limits
from .schemas import check_schema
from .secrets import refuse_keys
from .storage.database_urls import parse_database_address
from .storage.formats import check_output


def _check_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("contains a NUL character, which is not allowed in a path")
    return value


def _check_address(value: str) -> str:
    parse_database_address(value)
    return value


def _check_format(value: str) -> str:
    check_output(value)
    return value


LedgerPlace: TypeAlias = Annotated[str, AfterValidator(_check_nul)]
"""A folder or URL."""

SourceAddress: TypeAlias = Annotated[str, AfterValidator(_check_address), AfterValidator(_check_nul)]
"""A path, a query or the address of a database."""

OutputAddress: TypeAlias = Annotated[str, AfterValidator(_check_format), AfterValidator(_check_nul)]
"""The path of a file with a known format, or the address of a table."""


def _check_encoding(value: str | None) -> str | None:
    try:
        if value is not None:
            "a".encode(value)
    except LookupError:
        raise ValueError("unknown encoding: use a name such as cp1252, latin-1 or utf-16") from None
    return value


Encoding: TypeAlias = Annotated[str | None, AfterValidator(_check_encoding)]
"""The name of an encoding that Python knows."""


def _check_model_settings(value: dict[str, Any]) -> dict[str, Any]:
    refuse_keys(value)
    return value


ModelSettings: TypeAlias = Annotated[dict[str, Any], AfterValidator(_check_model_settings)]
"""Settings of pydantic-ai, without API keys."""


def _check_output_schema(value: dict[str, Any] | None) -> dict[str, Any] | None:
    if value is not None:
        check_schema(value)
    return value


OutputSchema: TypeAlias = Annotated[dict[str, Any] | None, AfterValidator(_check_output_schema)]
"""A JSON Schema for an object."""


def _limits_of_the_model(value: object, info: ValidationInfo) -> object:
    return own_limits(value, info.data.get("model"))


ModelLimits: TypeAlias = Annotated[Limits, PerModelSchema, BeforeValidator(_limits_of_the_model)]
"""The limits of the job's model, which is validated before; also accepts one object per model."""


def _check_prices(value: dict[str, Any] | None) -> dict[str, Any] | None:
    if value is not None:
        check_prices(value)
    return value


Prices: TypeAlias = Annotated[dict[str, Any] | None, AfterValidator(_check_prices)]
"""One object of prices, or one object per model."""


def _check_engine(value: ProcessorConfig) -> ProcessorConfig:
    if value.dry_run:
        raise ValueError("dry_run would store placeholder answers: use `batch-llm run --dry-run` instead")
    return value


EngineSettings: TypeAlias = Annotated[ProcessorConfig, AfterValidator(_check_engine)]
"""Settings of the engine, without dry runs."""
