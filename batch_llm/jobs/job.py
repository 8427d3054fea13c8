"""BatchJob: a batch as data. What a deployment presets, what the UI's form shows, what the command sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from batch_llm.config import Limits, ProcessorConfig, RetryConfig
from batch_llm.errors import JobError

from .daily_limits import DailyLimit
from .per_model import OrForEach, check_prices, own_limits
from .runner import RunnerName, RunnerOptions
from .schemas import check_schema
from .secrets import refuse_keys, refuse_known_keys
from .setting_errors import in_one_line
from .storage.database_urls import find_address, refuse_passwords
from .storage.formats import check_output


def _long_waits() -> RetryConfig:
    return RetryConfig(max_attempts=3, initial_wait=30, max_wait=600)


class _Called:
    """Leaves `dry_run` out of the form of the engine's settings: a job's answers are kept, and must be answers."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        shown = handler.resolve_ref_schema(handler(core))
        shown.get("properties", {}).pop("dry_run", None)
        return shown


class BatchJob(BaseModel):
    """A source, a prompt for each of its rows, a model, the shape of the answers, and where they go."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    source: str = Field(
        min_length=1,
        title="Source",
        description="What to read: a .jsonl, .csv or .parquet file, a folder or glob of text files, a URL, a DuckDB "
        "query ('select ...'), a database's table or query (postgresql://host/db#docs, sqlite:///file.db#select ...), "
        "or 'samples' for the documents that come with batch-llm.",
    )
    prompt: str = Field(
        min_length=1,
        title="Prompt",
        description="Sent for each row. {column} is replaced by the row's value; write {{ and }} for braces.",
    )
    output: str = Field(
        min_length=1,
        title="Output",
        description="The file to write; its ending decides: .jsonl, .parquet or .csv, packed with .gz or "
        ".zst. Or a table in a database.",
    )
    publish: Literal["when_complete", "always"] = Field(
        "when_complete",
        title="Publish",
        description="Whether a run that failed, was stopped or is not complete may replace the output of one that was: "
        "'when_complete' writes its rows to <output>.partial.<ending> beside it, 'always' replaces it.",
    )
    partition_by: list[str] = Field(
        default_factory=list[str],
        title="Partition by",
        description="Columns whose values become folders: the output is then a folder of files, out.csv/topic=a/...",
    )
    csv_formulas: Literal["keep", "escape"] = Field(
        "keep",
        title="Formulas in CSV",
        description="'escape' puts an apostrophe before text of CSV outputs that a spreadsheet would run as a formula "
        "(=, +, -, @, tab); numbers stay numbers. 'keep': every value stays the text that it is.",
    )
    instructions: str = Field("", title="Instructions", description="System instructions, the same for each row.")
    model: str = Field(
        "local",
        min_length=1,
        title="Model",
        description="'provider:model' as pydantic-ai names them, 'gemini-direct:' and a Gemini model, or 'local'.",
    )
    output_schema: dict[str, Any] | None = Field(
        None,
        title="Shape of the answer",
        description="A JSON Schema of type object; its properties become columns. Without one the answer is plain "
        "text, in the column 'answer'.",
    )
    output_mode: Literal["auto", "native", "tool", "prompted"] = Field(
        "auto",
        title="Output mode",
        description="By what means answers get the shape: 'native' (the provider's JSON Schema output), 'tool' (a call "
        "of a tool) or 'prompted' (words). 'auto': the best that the model has, and the next where the server refuses.",
    )
    truncated_answers: Literal["keep", "fail"] = Field(
        "keep",
        title="Truncated answers",
        description="What an answer that the token limit cut off is: 'keep' it, with finish_reason 'length', or let "
        "the row 'fail'.",
    )
    id_column: str | None = Field(
        None,
        min_length=1,
        title="Id column",
        description="The column that names a row. Without it: 'item_id', else 'id', else a name made from the row.",
    )
    name: str = Field(
        "batch",
        pattern="^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        max_length=80,
        title="Name",
        description="Names the ledger's folder: runs of the same name reuse each other's answers.",
    )
    shard_size: int | None = Field(
        None,
        ge=1,
        title="Shard size",
        description="Items in one shard: one Prefect task, retried as a whole. Without it: some minutes' worth.",
    )
    encoding: str | None = Field(
        None,
        min_length=1,
        title="Encoding",
        description="Of text, csv and jsonl files: cp1252, latin-1, utf-16, ... Without it: UTF-8, or what a byte "
        "order mark says.",
    )
    limit: int | None = Field(None, ge=1, title="Limit", description="Only the first items of the source.")
    config: Annotated[ProcessorConfig, _Called()] = Field(
        default_factory=ProcessorConfig, title="Engine", description="How each shard runs: workers, timeouts, retries."
    )
    limits: Annotated[Limits, OrForEach] = Field(
        default_factory=Limits,
        title="Provider's limits",
        description="What the provider allows: requests_per_minute, tokens_per_minute, input_tokens_per_minute, "
        "output_tokens_per_minute; or such an object for each model's name. What is not set is found out.",
    )
    limit_scope: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        title="Limit scope",
        description="Names the limit; runs of the same scope share it. Without it: the model's name.",
    )
    daily_limit: DailyLimit = Field(
        "stop",
        title="Limit of the day",
        description="When the provider's limit of the day is used up: 'stop' ends the run at once, 'wait' sleeps until "
        "it is full again, where the provider says when.",
    )
    shard_retry: RetryConfig = Field(
        default_factory=_long_waits,
        title="Retries of a shard",
        description="How often and how patiently Prefect runs a shard again for the items that are missing.",
    )
    runner: RunnerName = Field(
        "auto",
        title="Runner",
        description="What carries the shards: 'auto' takes as many processes as help, 'threads' (one shard after "
        "another), 'processes', 'dask', 'ray', or 'pool', the workers of the run's work pool.",
    )
    runner_options: RunnerOptions = Field(
        default_factory=RunnerOptions,
        title="Options of the runner",
        description="processes: shards at once; address: of an existing Dask scheduler or Ray cluster.",
    )
    failure_threshold: float = Field(
        0.1, ge=0, le=1, title="Failure threshold", description="The run fails when a larger share of items failed."
    )
    model_settings: dict[str, Any] = Field(
        default_factory=dict,
        title="Model settings",
        description="pydantic-ai's model settings: temperature, max_tokens, ...",
    )
    prices: dict[str, Any] | None = Field(
        None,
        title="Own prices",
        description="USD per million tokens: input_mtok, output_mtok, cached_input_mtok; or such an object for each "
        "model's name. Without them: the published prices.",
    )
    budget_usd: float | None = Field(
        None, gt=0, title="Budget", description="What a run may cost in USD; then no further call starts."
    )
    budget_tokens: int | None = Field(
        None, ge=1, title="Budget in tokens", description="The same in tokens, those sent and received together."
    )
    monthly_budget_usd: float | None = Field(
        None,
        gt=0,
        title="Monthly budget",
        description="What all runs of this name may cost in USD in a calendar month (UTC), by what the ledger has.",
    )
    cached_context: str | None = Field(
        None,
        title="Cached context",
        description="Text, or @file, that is sent once and cached at the provider; for 'gemini-direct:' models.",
    )
    canary: int = Field(
        20,
        ge=0,
        title="Canary",
        description="So many first items of a new or changed job run alone; where they fail or cost too much, nothing "
        "else is called. 0 for none.",
    )
    refresh: bool = Field(
        False, title="Refresh", description="Call the model for all items, also where the ledger has the answer."
    )
    only_failed: bool = Field(
        False,
        title="Only what failed",
        description="Call only items that an earlier run has tried in vain; new and changed ones wait for a full run.",
    )
    only_truncated: bool = Field(
        False,
        title="Only what was truncated",
        description="Call only items whose answer the token limit cut off in an earlier run: raise max_tokens for it.",
    )
    ledger: str = Field(
        ".batch-llm",
        min_length=1,
        title="Ledger",
        description="What remembers answers: a folder, or a URL such as s3://bucket/ledger that many machines share.",
    )

    @field_validator("output")
    @classmethod
    def _known_format(cls, value: str) -> str:
        check_output(value)
        return value

    @field_validator("source")
    @classmethod
    def _whole_address(cls, value: str) -> str:
        find_address(value)
        return value

    @model_validator(mode="after")
    def _folder_to_partition(self) -> Self:
        if self.partition_by and (find_address(self.output) or "://" in self.output):
            raise ValueError("partition_by makes a folder that appears as a whole: name a local one as output")
        return self

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.refresh and self.only_failed:
            raise ValueError("refresh calls all items, only_failed some: set one of them")
        if self.only_truncated and (self.refresh or self.only_failed):
            raise ValueError("only_truncated calls other items than refresh and only_failed: set one of them")
        return self

    @model_validator(mode="after")
    def _options_of_the_runner(self) -> Self:
        self.runner_options.check_for(self.runner)
        return self

    @field_validator("config")
    @classmethod
    def _calls_the_model(cls, value: ProcessorConfig) -> ProcessorConfig:
        if value.dry_run:
            raise ValueError("dry_run would keep answers that are none: use `batch-llm run --dry-run` instead")
        return value

    @field_validator("source", "output", "ledger")
    @classmethod
    def _no_nul(cls, value: str) -> str:
        if "\0" in value:
            raise ValueError("it has a NUL character in it, which no path can have")
        return value

    @field_validator("model_settings")
    @classmethod
    def _no_keys(cls, value: dict[str, Any]) -> dict[str, Any]:
        refuse_keys(value)
        return value

    @model_validator(mode="before")
    @classmethod
    def _no_known_keys(cls, values: Any) -> Any:
        if isinstance(values, dict):
            refuse_known_keys(cast("dict[str, Any]", values))
            refuse_passwords(cast("dict[str, Any]", values).get(place) for place in ("source", "output", "ledger"))
        return values  # pyright: ignore[reportUnknownVariableType]  whatever it is, pydantic looks at it

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        try:
            if value is not None:
                "a".encode(value)
        except LookupError:
            raise ValueError("no encoding has this name: use one such as cp1252, latin-1 or utf-16") from None
        return value

    @field_validator("output_schema")
    @classmethod
    def _usable_schema(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None:
            check_schema(value)
        return value

    @field_validator("limits", mode="before")
    @classmethod
    def _limits_of_the_model(cls, value: object, info: ValidationInfo) -> object:
        return own_limits(value, info.data.get("model"))

    @field_validator("prices")
    @classmethod
    def _usable_prices(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None:
            check_prices(value)
        return value

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> BatchJob:
        """Make a job of plain values.

        Raises:
            JobError: One line on the first value that cannot be.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise JobError(in_one_line(error.errors()[0], list(cls.model_fields))) from error


LOCAL = "local"
