"""Checks before a run starts: source, prompt, model, output, ledger and budgets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from batch_llm.errors import JobError
from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.ledger.publishing import place_to_publish
from batch_llm.jobs.ledger.run_folder import job_store, prepare_ledger
from batch_llm.jobs.models.factory import check_model
from batch_llm.jobs.models.ignored_settings import ignored_settings
from batch_llm.jobs.prompts import Prompt
from batch_llm.jobs.runner_options import check_runner
from batch_llm.jobs.sinks import (
    OutputPlace,
    added_column_names,
    check_writable,
    open_sink,
    output_columns,
)
from batch_llm.jobs.sources import Source, open_source
from batch_llm.jobs.spending.budgets import check_budget
from batch_llm.jobs.spending.prices import check_lane_price
from batch_llm.jobs.storage.duckdb_session import Tables, open_tables
from batch_llm.jobs.storage.store import Store

from .items import FAILURE_COLUMNS, id_column, input_columns
from .path_conflicts import check_path_conflicts
from .preview import count_rows_of


@dataclass(frozen=True, slots=True)
class CheckedJob:
    """Addresses of a job, opened or parsed by its check, for the plan.

    Attributes:
        source: The opened source.
        output: The place of the output.
        columns: Known columns of the source; later rows of JSON may have more.
    """

    source: Source
    output: OutputPlace
    columns: tuple[str, ...]


def check(job: BatchJob, *, strategy: str = "", with_model: bool = True) -> tuple[str, ...]:
    """Check that a job can run, before anything is started and any call is made.

    Args:
        job: The job.
        strategy: Name of a strategy that the caller passes; the job's model is then not checked.
        with_model: Whether to check the model, which imports the packages of its provider.

    Returns:
        Known columns of the source; later rows of JSON may have more.

    Raises:
        JobError: The job cannot run; the message says in one line what is wrong, where and what to do.

    Example:
        >>> check(BatchJob(source="tickets.csv", prompt="{text}", output="out.csv"))  # doctest: +SKIP
        ('id', 'text')
    """
    with open_tables() as tables:
        return check_and_open(tables, job, job_store(job), strategy=strategy, with_model=with_model).columns


def check_and_open(
    tables: Tables, job: BatchJob, runs: Store, *, strategy: str = "", with_model: bool = True
) -> CheckedJob:
    """Check a job as `check` does, in a session and with a ledger that the caller has opened.

    Args:
        tables: The session that reads the source.
        job: The job.
        runs: The ledger folder of the job's name.
        strategy: Name of a strategy that the caller passes; the job's model is then not checked.
        with_model: Whether to check the model.

    Raises:
        JobError: The job cannot run.
    """
    check_runner(job.runner)
    prompt = Prompt(job.prompt)
    source = open_source(tables, job.source, job.encoding)
    check_prompt_varies(job, source)
    columns = source.columns({*prompt.columns, *([job.id_column] if job.id_column else []), *_partitioning(job)})
    if "_position" in columns:
        raise JobError("the source has a column '_position', which is a reserved name: rename it")
    known = input_columns(dict.fromkeys(columns, ""))
    prompt.check(known)
    id_column(job, known)
    output = OutputPlace.parse(job.output, job.partition_by)
    check_path_conflicts(job.source, output)
    check_sinks(job, output, known)
    place_to_publish(tables, job, output, runs, complete=False)
    if runs.local:
        prepare_ledger(job, runs)
        check_writable(str(runs.local / "check"), setting="ledger")
    check_budget(job, own_strategy=bool(strategy))
    if strategy and job.lane != "online":
        raise JobError(f"lane={job.lane} does not work with a strategy of the caller: leave lane out")
    if not strategy:
        check_lane_price(job)
        if with_model:
            check_model(job)
    return CheckedJob(source, output, tuple(known))


def source_warnings(job: BatchJob) -> tuple[str, ...]:
    """Return sentences on what a job's source leaves out, such as files of other kinds.

    Raises:
        JobError: The source cannot be read.

    Example:
        >>> source_warnings(BatchJob(source="docs/*", prompt="{text}", output="out.csv"))  # doctest: +SKIP
        ('2 files left out: 1 .pdf, 1 .png (d.pdf, p.png)',)
    """
    with open_tables() as tables:
        return tuple(open_source(tables, job.source, job.encoding).warnings())


def setting_warnings(job: BatchJob) -> tuple[str, ...]:
    """Return sentences on settings that the job's model ignores.

    Raises:
        JobError: The model cannot be used.

    Example:
        >>> setting_warnings(job)  # doctest: +SKIP
        ('openai-chat:o3 ignores temperature: remove it from model_settings',)
    """
    ignored = ignored_settings(job)
    return (f"{job.model} ignores {', '.join(ignored)}: remove it from model_settings",) if ignored else ()


def check_prompt_varies(job: BatchJob, source: Source) -> None:
    """Check that the prompt uses a column, unless the job has a single row or allows a constant prompt.

    Args:
        job: The job.
        source: The opened source of the job.

    Raises:
        JobError: The same prompt would be sent for several rows.
    """
    if Prompt(job.prompt).columns or job.constant_prompt or job.limit == 1:
        return
    if count_rows_of(job, source, 2) > 1:
        raise JobError(
            "the prompt uses no column, so each row of the source would be called with the same text: write {column} "
            "where the row's value belongs, or set constant_prompt=true (--constant-prompt) to do it anyway"
        )


def check_sinks(job: BatchJob, output: OutputPlace, columns: Iterable[str]) -> None:
    """Check that the output and the failures file can be written.

    Args:
        job: The job.
        output: The place of the output.
        columns: Known columns of the source.

    Raises:
        JobError: An output cannot be written; the message says in one line what is wrong, where and what to do.
    """
    columns = tuple(columns)
    added = output_columns(columns, job.output_schema)
    known = [*columns, *(column for column, _ in added.answer.values()), *added.bookkeeping.values()]
    for column in output.partition_by:
        if column not in known:
            raise JobError(f"partition_by has {column!r}, which is not in the output: it has {', '.join(known)}")
    open_sink(output).check(known)
    if job.publish == "when_complete":
        open_sink(output.partial).check(known)
    inputs = [column for column in columns if column != "item_id"]
    open_sink(output.failures).check([*inputs, *added_column_names(inputs, FAILURE_COLUMNS).values()])


def _partitioning(job: BatchJob) -> set[str]:
    """Return the columns of the source by which the output is partitioned."""
    added = output_columns((), job.output_schema)
    return {*job.partition_by} - {column for column, _ in added.answer.values()} - {*added.bookkeeping}
