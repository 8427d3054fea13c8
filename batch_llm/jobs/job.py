"""`BatchJob`: the settings of a batch as data, for presets, the Prefect run form and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from batch_llm.config import Limits, ProcessorConfig, RetryConfig
from batch_llm.errors import JobError

from .daily_limits import DailyLimit
from .file_references import with_files_read
from .runner_options import RunnerName, RunnerOptions
from .secrets import refuse_known_keys
from .setting_errors import format_errors
from .setting_types import (
    Encoding,
    EngineSettings,
    LedgerPlace,
    ModelLimits,
    ModelSettings,
    OutputAddress,
    OutputSchema,
    Prices,
    SourceAddress,
)
from .storage.database_urls import check_no_passwords, parse_database_address


def _long_waits() -> RetryConfig:
    return RetryConfig(max_attempts=3, initial_wait=30, max_wait=600)


class BatchJob(BaseModel):
    """A batch of LLM calls: a source, a prompt for each row, a model, the shape of the answers and an output.

    The description of each field is shown in the Prefect run form and in the command's help, in this order.

    Example:
        >>> job = BatchJob(source="tickets.csv", prompt="Summarize: {text}", output="summaries.csv")
        >>> job.model
        'local'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    source: SourceAddress = Field(
        min_length=1,
        title="Source",
        description="Rows to process: a .csv, .jsonl, .json, .parquet or .xlsx file, a folder or glob of text files, a "
        "URL, a DuckDB query ('select ...'), a database table or query (postgresql://host/db#docs, "
        "sqlite:///file.db#select ...), or 'samples' for the sample documents included in batch-llm.",
    )
    prompt: str = Field(
        min_length=1,
        title="Prompt",
        description="Prompt for each row. {column} is replaced by the row's value, {column.field} and {column[0]} by a "
        "value inside it; write literal braces as {{ and }}. @file reads the prompt from a file.",
    )
    instructions: str = Field("", title="Instructions", description="System instructions for all rows, or @file.")
    model: str = Field(
        "local",
        min_length=1,
        title="Model",
        description="'provider:model' as in pydantic-ai, 'gemini-direct:' and a Gemini model, or 'local'.",
    )
    output_schema: OutputSchema = Field(
        None,
        title="Shape of the answer",
        description="JSON Schema of type object; its properties become columns. Without a schema, the answer is plain "
        "text in the column 'answer'.",
    )
    output: OutputAddress = Field(
        min_length=1,
        title="Output",
        description="File to write: .jsonl, .parquet or .csv, optionally compressed (.gz, .zst), or a database table.",
    )
    name: str = Field(
        "batch",
        pattern="^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        max_length=80,
        title="Name",
        description="Name of the job and its folder in the ledger. Runs of the same name reuse each other's answers.",
    )
    limit: int | None = Field(None, ge=1, title="Limit", description="Process only the first N rows of the source.")
    budget_usd: float | None = Field(
        None, gt=0, title="Budget", description="Maximum cost of a run in USD. No call starts when it is used up."
    )
    budget_tokens: int | None = Field(
        None, ge=1, title="Budget in tokens", description="Maximum tokens of a run, input and output together."
    )
    monthly_budget_usd: float | None = Field(
        None,
        gt=0,
        title="Monthly budget",
        description="Maximum cost in USD of all runs of this name in a calendar month (UTC), from the ledger.",
    )
    failure_threshold: float = Field(
        0.1,
        ge=0,
        le=1,
        title="Failure threshold",
        description="Largest share of failed items (0 to 1). The run fails above it.",
    )
    canary: int = Field(
        20,
        ge=0,
        title="Canary",
        description="Number of items to process first in a new or changed job. The run stops if too many of them fail "
        "or they cost too much. 0 disables the canary.",
    )
    refresh: bool = Field(
        False, title="Refresh", description="Call the model for all items, including items already in the ledger."
    )
    only_failed: bool = Field(
        False,
        title="Only failed items",
        description="Retry only the items that failed in an earlier run; skip new and changed items.",
    )
    only_truncated: bool = Field(
        False,
        title="Only truncated answers",
        description="Call only items with an answer that was cut off at the token limit in an earlier run. Raise "
        "max_tokens as well.",
    )
    model_settings: ModelSettings = Field(
        default_factory=dict,
        title="Model settings",
        description="Model settings of pydantic-ai: temperature, max_tokens, ...",
    )
    lane: Literal["online", "flex"] = Field(
        "online",
        title="Lane",
        description="'online', or 'flex': half the price for models of OpenAI and Google that have it, but slower.",
    )
    output_mode: Literal["auto", "native", "tool", "prompted"] = Field(
        "auto",
        title="Output mode",
        description="How the schema is enforced: 'native' (the provider's JSON Schema output), 'tool' (a tool call) "
        "or 'prompted' (instructions). 'auto' uses the best mode of the model and falls back if the server rejects it.",
    )
    truncated_answers: Literal["keep", "fail"] = Field(
        "keep",
        title="Truncated answers",
        description="What to do with an answer that was cut off at the token limit: 'keep' it (finish_reason is "
        "'length') or 'fail' the row.",
    )
    cached_context: str | None = Field(
        None,
        title="Cached context",
        description="Text, or @file, that is sent once and cached by the provider. Only for 'gemini-direct:' models.",
    )
    constant_prompt: bool = Field(
        False,
        title="Constant prompt",
        description="Allow a prompt without a column, which is the same for each row of the source.",
    )
    id_column: str | None = Field(
        None,
        min_length=1,
        title="Id column",
        description="Column that identifies a row. Default: 'item_id', else 'id', else a hash of the row.",
    )
    encoding: Encoding = Field(
        None,
        min_length=1,
        title="Encoding",
        description="Encoding of text, CSV and JSONL files: cp1252, latin-1, utf-16, ... Default: the byte order mark, "
        "else UTF-8.",
    )
    publish: Literal["when_complete", "always"] = Field(
        "when_complete",
        title="Publish",
        description="When to replace the output of an earlier run. 'when_complete': only if the run is complete; "
        "otherwise its rows go to <output>.partial.<ending>. 'always': also if the run failed or was stopped.",
    )
    partition_by: list[str] = Field(
        default_factory=list[str],
        title="Partition by",
        description="Columns to partition the output by. The output becomes a folder of files: out.csv/topic=a/...",
    )
    csv_formulas: Literal["keep", "escape"] = Field(
        "keep",
        title="Formulas in CSV",
        description="'escape' puts an apostrophe before text in CSV outputs that a spreadsheet would run as a formula "
        "(=, +, -, @, tab); numbers are not changed. 'keep' writes all values unchanged.",
    )
    limits: ModelLimits = Field(
        default_factory=Limits,
        title="Provider's limits",
        description="Rate limits of your account: requests_per_minute, tokens_per_minute, input_tokens_per_minute, "
        "output_tokens_per_minute, or one such object per model. Limits that are not set are detected.",
    )
    limit_scope: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        title="Limit scope",
        description="Name of the rate limit. All runs with the same scope share it. Default: the model's name.",
    )
    daily_limit: DailyLimit = Field(
        "stop",
        title="Daily limit",
        description="What to do when the provider's daily limit is reached: 'stop' the run, or 'wait' until the limit "
        "resets if the provider reports when.",
    )
    prices: Prices = Field(
        None,
        title="Own prices",
        description="USD per million tokens: input_mtok, output_mtok, cached_input_mtok, or one such object per model. "
        "Default: published prices.",
    )
    ledger: LedgerPlace = Field(
        ".batch-llm",
        min_length=1,
        title="Ledger",
        description="Where answers are stored for reuse: a folder, or a URL such as s3://bucket/ledger to share it "
        "between machines.",
    )
    ledger_access: Literal["owner", "group"] = Field(
        "owner",
        title="Access to the ledger",
        description="Who may read a ledger on this machine: its 'owner' alone, or the folder's 'group' too, which may "
        "then also run the job.",
    )
    runner: RunnerName = Field(
        "auto",
        title="Runner",
        description="Where shards run: 'auto' (as many processes as are useful), 'threads' (one shard after another), "
        "'processes', 'dask', 'ray', or 'pool' (workers of the run's work pool).",
    )
    runner_options: RunnerOptions = Field(
        default_factory=RunnerOptions,
        title="Options of the runner",
        description="processes: number of shards at once; address: an existing Dask scheduler or Ray cluster.",
    )
    shard_size: int | None = Field(
        None,
        ge=1,
        title="Shard size",
        description="Items per shard. A shard is one Prefect task and is retried as a whole. Default: a few minutes "
        "of work.",
    )
    shard_retry: RetryConfig = Field(
        default_factory=_long_waits,
        title="Retries of a shard",
        description="How often a shard with unprocessed items is retried, and how long it waits between retries.",
    )
    config: EngineSettings = Field(
        default_factory=ProcessorConfig,
        title="Engine",
        description="Engine settings of each shard: workers, timeouts, retries.",
    )

    @model_validator(mode="after")
    def _local_partitions(self) -> Self:
        if self.partition_by and (parse_database_address(self.output) or "://" in self.output):
            raise ValueError("partition_by writes a folder of files: set output to a local path")
        return self

    @model_validator(mode="after")
    def _exclusive_selection(self) -> Self:
        if self.refresh and self.only_failed:
            raise ValueError("refresh and only_failed cannot be used together: set only one")
        if self.only_truncated and (self.refresh or self.only_failed):
            raise ValueError("only_truncated cannot be used together with refresh or only_failed: set only one")
        return self

    @model_validator(mode="after")
    def _options_of_the_runner(self) -> Self:
        self.runner_options.check_for(self.runner)
        return self

    @model_validator(mode="before")
    @classmethod
    def _no_known_keys(cls, values: Any) -> Any:
        if isinstance(values, dict):
            refuse_known_keys(cast("dict[str, Any]", values))
            check_no_passwords(cast("dict[str, Any]", values).get(place) for place in ("source", "output", "ledger"))
        return values  # pyright: ignore[reportUnknownVariableType]  pydantic validates it

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> BatchJob:
        """Return a job built from plain values, such as parameters of a flow run.

        Args:
            values: Values of the settings by name; prompt, instructions and schema may be `@file`.

        Raises:
            JobError: A value is not valid; the message names one such setting in one line.
        """
        try:
            return cls.model_validate(with_files_read(values))
        except ValidationError as error:
            raise JobError(format_errors(error.errors(), list(cls.model_fields))) from error


LOCAL = "local"  # the name of the model that runs on this machine and needs no key
