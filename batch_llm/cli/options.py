"""Options that several commands share."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from batch_llm.cli.presets import Preset

Flag = Annotated[bool, Parameter(negative=())]
Json = Flag

LEDGER = ".batch-llm"
Ledger = Annotated[str, Parameter(name="--ledger")]

Assignments = Annotated[list[str] | None, Parameter(name=["-p", "--param"], negative=(), allow_leading_hyphen=True)]


VALUES = (
    "source",
    "output",
    "model",
    "prompt",
    "instructions",
    "id_column",
    "limit",
    "lane",
    "budget_usd",
    "name",
    "shard_size",
)
FLAGS = ("constant_prompt", "refresh", "only_failed", "only_truncated")


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """Settings of a preset's job that the command line can override.

    Attributes:
        source: Source to read: a .csv, .jsonl, .json, .parquet or .xlsx file, a folder or glob of text files, a URL, a
            query ("select ..."), or samples.
        output: File to write: .jsonl, .parquet or .csv.
        model: provider:model as pydantic-ai names them, gemini-direct:model, or local.
        prompt: Prompt for each row, or @file; {column} is replaced by the row's value.
        instructions: System instructions, the same for all rows, or @file.
        id_column: Column with the ids of the rows.
        limit: Process only the first N rows.
        lane: online, or flex: half the price, slower, for models that have it.
        max_workers: Number of concurrent calls.
        budget_usd: Maximum cost of the run in USD.
        name: Name of the job and its folder in the ledger.
        shard_size: Number of items in a shard.
        refresh: Call the model for all items, including items already in the ledger.
        param: Any other setting as name=value, in JSON or as plain text; repeat it for more. An object is merged into
            the preset's; config.timeout_per_item=30 sets one value in it.
        constant_prompt: Allow a prompt that uses no column and is the same for all rows.
        only_failed: Retry only the items that failed before; skip new and changed items.
        only_truncated: Retry only the items whose answers were truncated at the token limit; raise max_tokens with it.
    """

    source: str | None = None
    output: str | None = None
    model: str | None = None
    prompt: str | None = None
    instructions: str | None = None
    id_column: str | None = None
    limit: int | None = None
    lane: Literal["online", "flex"] | None = None
    max_workers: int | None = None
    budget_usd: float | None = None
    name: str | None = None
    shard_size: int | None = None
    refresh: Flag = False
    param: Assignments = None
    constant_prompt: Flag = False
    only_failed: Flag = False
    only_truncated: Flag = False

    def apply(self, preset: Preset) -> dict[str, Any]:
        """Return the job's parameters: those of the preset, overridden by these options.

        Raises:
            JobError: A setting of `param` is invalid, or the parameters are too long for Prefect.
        """
        from batch_llm.cli.overrides import check_length, parse_assignments, with_overrides

        values = {name: getattr(self, name) for name in VALUES}
        flags = {name: getattr(self, name) or None for name in FLAGS}
        given: dict[str, Any] = {name: value for name, value in (values | flags).items() if value is not None}
        if self.max_workers is not None:
            given["config"] = {"max_workers": self.max_workers}
        parameters = with_overrides(preset.parameters, parse_assignments(self.param or []), given)
        check_length(parameters)
        return parameters


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOptions:
    """Settings of a preset's job that a trial can override.

    Attributes:
        source: Source to read, as for `batch-llm run`.
        prompt: Prompt for each row, or @file; {column} is replaced by the row's value.
        instructions: System instructions, the same for all rows, or @file.
        id_column: Column with the ids of the rows.
        max_workers: Number of concurrent calls.
        constant_prompt: Allow a prompt that uses no column and is the same for all rows.
        param: Any other setting as name=value, in JSON or as plain text; repeat it for more.
    """

    source: str | None = None
    prompt: str | None = None
    instructions: str | None = None
    id_column: str | None = None
    max_workers: int | None = None
    constant_prompt: Flag = False
    param: Assignments = None

    def apply(self, preset: Preset) -> dict[str, Any]:
        """Return the job's parameters; see `JobOptions.apply`."""
        return JobOptions(**{field.name: getattr(self, field.name) for field in fields(self)}).apply(preset)


def loading() -> AbstractContextManager[None]:
    """Show that Prefect is being imported, which takes some seconds."""
    from batch_llm.cli.terminal.screen import Screen

    return Screen(for_program=True).phase("Loading Prefect")
