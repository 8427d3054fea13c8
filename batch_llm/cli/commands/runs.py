"""`batch-llm status`, `results` and `prune`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from batch_llm.cli.options import LEDGER, Flag, Json, Ledger


def status(run: str = "", /, *, ledger: Ledger = LEDGER, json: Json = False) -> int:
    """Show the state, counts and cost of runs.

    States: running, completed, failed, stopped, cancelled, crashed; ended when
    items failed and the threshold of the run is not known. The ledger is read
    directly, so no server is needed.

    Parameters
    ----------
    run
        Id of a run or its beginning, or a job's name for its newest run; default: the newest runs of all jobs.
    ledger
        Ledger to read: a folder, or a URL such as s3://bucket/ledger.
    json
        Print one JSON object, or a list of them without RUN.
    """
    from batch_llm.cli.actions.runs import status

    return status(run, ledger, for_program=json)


def results(
    run: str = "",
    /,
    *,
    where: str = "",
    limit: Annotated[int, Parameter(name="--limit")] = 20,
    output: str = "",
    ledger: Ledger = LEDGER,
    json: Json = False,
) -> int:
    """Show the items of a run, failures first.

    Examples:

      batch-llm results summarize --where "error_category = 'timeout'"
      batch-llm results --where "status = 'failed' AND attempts > 2"
      batch-llm results summarize --where "finish_reason = 'length'"
      batch-llm results 1963ea --where "cost_usd > 0.01" --output expensive.csv

    Parameters
    ----------
    run
        Id of a run or its beginning, or a job's name for its newest run; default: the newest run.
    where
        SQL over id, status ('succeeded', 'failed', 'not_attempted', ...), output (JSON), error_category, error,
        attempts, input_tokens, output_tokens, cost_usd, seconds, finish_reason ('stop', 'length' where
        the token limit cut it off, ...), reused.
    limit
        Number of rows to show.
    output
        Write all matching items to this .jsonl, .csv or .parquet file instead.
    ledger
        Ledger to read: a folder, or a URL such as s3://bucket/ledger.
    json
        Print one JSON object with the rows.
    """
    from batch_llm.cli.actions.runs import results

    return results(run, ledger, where=where, limit=limit, output=output, for_program=json)


def prune(
    *names: str,
    keep_days: float = 30.0,
    dry_run: Flag = False,
    ledger: Ledger = LEDGER,
) -> int:
    """Remove old runs from the ledger; answers that remaining runs need are kept.

    The newest finished run of a name is always kept. If a run of the name is
    running, the command waits for it.

    Parameters
    ----------
    names
        Names of jobs; without names, all jobs.
    keep_days
        Keep runs that are younger than this, in days.
    dry_run
        Only print what would be removed.
    ledger
        Ledger to read: a folder, or a URL such as s3://bucket/ledger.
    """
    from batch_llm.cli.actions.runs import prune

    return prune(names, ledger, keep_days=keep_days, dry_run=dry_run)
