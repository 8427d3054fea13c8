"""`batch-llm demo` and `run`."""

from __future__ import annotations

import shlex
import sys

from batch_llm.cli.options import Flag, JobOptions, Json

from .estimate import estimate


def demo() -> int:
    """Summarize sample documents with a small local model; needs no key and no network.

    It starts a local Prefect server if none is running, runs the preset
    summarize, and prints the answers and the address of the run's page.
    """
    return _run(
        "summarize",
        JobOptions(),
        command="batch-llm run summarize",
        next_step="batch-llm run summarize --source docs.jsonl --output out.jsonl --model google:gemini-3.8-flash",
    )


def run(preset: str, /, *, options: JobOptions | None = None, dry_run: Flag = False, json: Json = False) -> int:
    """Run a preset over your documents and wait for the results.

    Items that were answered before, under this preset's name and from this
    folder, are not called again: run the same command to continue an
    interrupted run.

    Examples:

      batch-llm run summarize --source docs.jsonl --output out.jsonl \\
          --model google:gemini-3.8-flash
      batch-llm run classify --source 'letters/*.txt' --output out.csv \\
          --model openai-chat:gpt-6-luna --limit 20
      batch-llm run extract --source docs.csv --max-workers 50 \\
          --budget-usd 5 -p config.timeout_per_item=30

    Exit codes: 0 when the run completed, 1 when it failed, 2 when the job is
    invalid, 130 after Ctrl-C.

    Parameters
    ----------
    preset
        Name of a preset; `batch-llm presets` lists them.
    dry_run
        Only print the expected cost, as `batch-llm estimate` does.
    json
        Print the totals as one JSON object, the last line of standard output.
    """
    if dry_run:
        return estimate(preset, options=options, json=json)
    command = shlex.join(["batch-llm", *sys.argv[1:]])
    return _run(preset, options or JobOptions(), command=command, for_program=json)


def _run(name: str, options: JobOptions, *, command: str, for_program: bool = False, next_step: str = "") -> int:
    from batch_llm.cli.actions.flow_process import FlowProcess

    with FlowProcess.started() as process:  # before anything else is imported: it imports Prefect meanwhile
        from batch_llm.cli.terminal.screen import Screen

        screen = Screen(for_program=for_program)
        with screen.phase("Checking the job"):
            from batch_llm.cli.actions.run import RunRequest, run
            from batch_llm.cli.overrides import repeatable_parameters
            from batch_llm.cli.presets import find_preset
            from batch_llm.jobs import BatchJob, check, source_warnings

            preset = find_preset(name)
            parameters = options.apply(preset)
            job = BatchJob.parse(parameters)
            check(job, with_model=False)  # the process checks the model: it needs its packages
            warnings = source_warnings(job)
        for warning in warnings:
            screen.print(f"Warning: {warning}.")
        return run(RunRequest(preset, repeatable_parameters(parameters), screen, command, next_step), process)
