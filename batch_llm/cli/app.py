"""The commands and their help. What takes long to import is imported where it is needed: help must be instant."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Annotated, Any

from cyclopts import App, Parameter

HELP = """LLM batches over your documents, as Prefect flows.

Try it, without a key or a network:

  batch-llm demo
"""

app = App(
    name="batch-llm",
    help=HELP,
    help_format="plaintext",  # lines stay as they stand here; markdown would take longer to import than all the rest
    suppress_keyboard_interrupt=False,
    version_flags=["--version"],
)
server = App(name="server", help="The local Prefect server: start it, end it, see whether it runs.")
app.command(server)
limits = App(name="limit", help="What a provider allows, shared by all runs of the same scope; heeded within seconds.")
app.command(limits)

LOADING = "Loading Prefect"
"""What takes some seconds before anything else can be said."""

Json = Annotated[bool, Parameter(negative=())]


def _version() -> str:
    from importlib.metadata import version

    return version("batch-llm")


app.version = _version


def _loading() -> AbstractContextManager[None]:
    from .screen import Screen

    return Screen(for_program=True).phase(LOADING)


@app.command
def demo() -> int:
    """Summarize the sample documents with a small model on this machine: no key, no network.

    It starts a local Prefect server if there is none, runs the preset
    summarize as it is, and shows the answers and the address of the run's page.
    """
    return _run(
        "summarize",
        next_step="batch-llm run summarize --source docs.jsonl --output out.jsonl --model google:gemini-3.8-flash",
    )


@app.command
def run(
    preset: str,
    /,
    *,
    source: str | None = None,
    output: str | None = None,
    model: str | None = None,
    prompt: str | None = None,
    instructions: str | None = None,
    id_column: str | None = None,
    limit: int | None = None,
    param: Annotated[
        list[str] | None, Parameter(name=["-p", "--param"], negative=(), allow_leading_hyphen=True)
    ] = None,
    only_failed: Annotated[bool, Parameter(negative=())] = False,
    json: Json = False,
) -> int:
    """Run a preset over your documents, and wait for the results.

    What was answered before, under this preset's name and from this folder, is
    not asked again: the same command goes on where it was cut short.

    Examples:

      batch-llm run summarize --source docs.jsonl --output out.jsonl \\
          --model google:gemini-3.8-flash
      batch-llm run classify --source 'letters/*.txt' --output out.csv \\
          --model openai-chat:gpt-6-luna --limit 20
      batch-llm run extract --source docs.csv \\
          -p 'config={"max_workers": 50}' -p failure_threshold=0.2

    It ends with 0 when the run completed, with 1 when it failed, with 2 for a
    job that cannot run, with 130 after Ctrl-C.

    Parameters
    ----------
    preset
        One of those that `batch-llm presets` lists.
    source
        What to read: a .jsonl, .csv or .parquet file, a folder or glob of text files, a URL, a query ("select ..."),
        or samples.
    output
        The file to write: .jsonl, .parquet or .csv.
    model
        provider:model as pydantic-ai names them, gemini-direct:model, or local.
    prompt
        What is asked about each row; {column} is replaced by the row's value.
    instructions
        System instructions, the same for each row.
    id_column
        The column that names a row.
    limit
        Only the first rows.
    param
        Any other setting as name=value, in JSON or as plain text; repeat it for more. An object is merged into the
        preset's.
    only_failed
        Call only what earlier runs have tried in vain; new and changed items wait for a full run.
    json
        Print the totals as one JSON object, the last line on standard output.
    """
    named = {
        "source": source,
        "output": output,
        "model": model,
        "prompt": prompt,
        "instructions": instructions,
        "id_column": id_column,
        "limit": limit,
        "only_failed": only_failed or None,
    }
    return _run(preset, named, param or [], for_program=json)


def _run(
    name: str,
    named: dict[str, Any] | None = None,
    assignments: list[str] | None = None,
    *,
    for_program: bool = False,
    next_step: str = "",
) -> int:
    from .screen import Screen

    screen = Screen(for_program=for_program)
    with screen.phase("Checking the job"):
        from batch_llm.jobs import BatchJob, check

        from .overrides import parse_assignments, with_absolute_paths, with_overrides
        from .presets import find_preset

        preset = find_preset(name)
        given = {setting: value for setting, value in (named or {}).items() if value is not None}
        parameters = with_overrides(preset.parameters, parse_assignments(assignments or []), given)
        check(BatchJob.parse(parameters))
    with screen.phase(LOADING):
        from .run import Order, run
    return run(Order(preset, with_absolute_paths(parameters), screen, next_step))


@app.command
def presets() -> None:
    """List the presets: model, source, output, schedule."""
    from .presets import print_presets

    print_presets()


Ledger = Annotated[str, Parameter(name="--ledger")]
LEDGER = ".batch-llm"


@app.command(name="status")
def run_status(run: str = "", /, *, ledger: Ledger = LEDGER, json: Json = False) -> int:
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
    from .looking import status

    return status(run, ledger, for_program=json)


@app.command
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
      batch-llm results 1963ea --where "cost_usd > 0.01" --output dear.csv

    Parameters
    ----------
    run
        A run's id or its beginning, or a job's name for its newest run; without it, the newest run of all.
    where
        SQL over id, status ('succeeded', 'failed', 'not_attempted', ...), output (JSON), error_category, error,
        attempts, input_tokens, output_tokens, cost_usd, seconds, reused.
    limit
        Rows to show.
    output
        Write all of them to this .jsonl, .csv or .parquet file instead.
    ledger
        Where it is: a folder, or a URL such as s3://bucket/ledger.
    """
    from .looking import results

    return results(run, ledger, where=where, limit=limit, output=output)


@app.command
def prune(
    *names: str,
    keep_days: float = 30.0,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
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
    from .looking import prune

    return prune(names, ledger, keep_days=keep_days, dry_run=dry_run)


@app.command
def serve() -> int:
    """Serve all presets from this process: scheduled runs, and runs started from the UI.

    Also those of `prefect deployment run batch-llm/PRESET`. Nothing else is
    needed: a local Prefect server is started if there is none, and then ends
    with this command. Relative paths start from the folder where you are.
    """
    with _loading():
        from .serving import serve

    return serve()


@app.command
def deploy(*names: str, pool: str | None = None) -> int:
    """Deploy presets to a work pool, whose workers run them.

    This is `prefect deploy` with deployments/prefect.yaml.

    Examples:

      batch-llm deploy
      batch-llm deploy summarize-nightly --pool nightly

    Parameters
    ----------
    names
        Presets; all of them if none is named.
    pool
        The work pool, instead of the one that the preset names; a process pool is created if there is none.
    """
    with _loading():
        from .deploying import deploy

    return deploy(names, pool)


@server.command
def start() -> int:
    """Start the local Prefect server, and leave it running."""
    with _loading():
        from .local_server import start

    return start()


@server.command
def stop() -> int:
    """End the local Prefect server; what it knows of runs stays on disk."""
    with _loading():
        from .local_server import stop

    return stop()


@server.command
def status() -> int:
    """Say which Prefect server commands talk to; the exit code is 0 if it answers."""
    with _loading():
        from .local_server import status

    return status()


@limits.command(name="set")
def set_limit(
    scope: str,
    /,
    *,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    input_tokens_per_minute: float | None = None,
    output_tokens_per_minute: float | None = None,
) -> int:
    """State what a provider allows; runs of that scope keep to it, also those at work.

    It stands in the UI under Variables. What is not named stays as it was.

    Parameters
    ----------
    scope
        The model's name as runs have it, such as openai-chat:gpt-6-luna, or their limit_scope.
    requests_per_minute
        Calls.
    tokens_per_minute
        Tokens sent and received, together.
    input_tokens_per_minute
        Tokens sent.
    output_tokens_per_minute
        Tokens received.
    """
    named = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "input_tokens_per_minute": input_tokens_per_minute,
        "output_tokens_per_minute": output_tokens_per_minute,
    }
    with _loading():
        from .limits import set_limit

    return set_limit(scope, {name: value for name, value in named.items() if value is not None})


@limits.command(name="show")
def show_limits() -> int:
    """Show the limits that are stated."""
    with _loading():
        from .limits import show_limits

    return show_limits()


@limits.command(name="clear")
def clear_limit(scope: str, /) -> int:
    """State nothing for a scope any more.

    Parameters
    ----------
    scope
        As `batch-llm limit show` has it.
    """
    with _loading():
        from .limits import clear_limit

    return clear_limit(scope)
