"""`batch-llm status`, `results` and `prune`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from batch_llm.cli.options import LEDGER, Flag, Json, Ledger


def status(run: str = "", /, *, ledger: Ledger = LEDGER, json: Json = False) -> int:
    """Show how runs stand: what is done, failed, missing, and what it cost.

    It looks into the ledger, so it needs no server, and sees a run that is at
    work as well as one whose process died.

    Parameters
    ----------
    run
        A run's id or its beginning, or a job's name for its newest run; without it, the newest runs of all.
    ledger
        Where it is: a folder, or a URL such as s3://bucket/ledger.
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
) -> int:
    """Show the items of a run, failures first.

    Examples:

      batch-llm results summarize --where "error_category = 'timeout'"
      batch-llm results --where "status = 'failed' AND attempts > 2"
      batch-llm results summarize --where "finish_reason = 'length'"
      batch-llm results 1963ea --where "cost_usd > 0.01" --output dear.csv

    Parameters
    ----------
    run
        A run's id or its beginning, or a job's name for its newest run; without it, the newest run of all.
    where
        SQL over id, status ('succeeded', 'failed', 'not_attempted', ...), output (JSON), error_category, error,
        attempts, input_tokens, output_tokens, cost_usd, seconds, finish_reason ('stop', 'length' where
        the token limit cut it off, ...), reused.
    limit
        Rows to show.
    output
        Write all of them to this .jsonl, .csv or .parquet file instead.
    ledger
        Where it is: a folder, or a URL such as s3://bucket/ledger.
    """
    from batch_llm.cli.actions.runs import results

    return results(run, ledger, where=where, limit=limit, output=output)


def prune(
    *names: str,
    keep_days: float = 30.0,
    dry_run: Flag = False,
    ledger: Ledger = LEDGER,
) -> int:
    """Remove old runs from the ledger; answers that later runs use or may need stay.

    The newest run of a name that has ended always stays. While a run of the
    name is at work, this waits for it.

    Parameters
    ----------
    names
        Jobs' names; all of them if none is named.
    keep_days
        How long runs stay, in days.
    dry_run
        Only say what would go.
    ledger
        Where it is: a folder, or a URL such as s3://bucket/ledger.
    """
    from batch_llm.cli.actions.runs import prune

    return prune(names, ledger, keep_days=keep_days, dry_run=dry_run)
