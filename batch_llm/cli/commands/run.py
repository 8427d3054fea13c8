"""`batch-llm demo` and `run`."""

from __future__ import annotations

import shlex
import sys

from batch_llm.cli.options import Flag, JobOptions, Json

from .estimate import estimate


def demo() -> int:
    """Summarize the sample documents with a small model on this machine: no key, no network.

    It starts a local Prefect server if there is none, runs the preset
    summarize as it is, and shows the answers and the address of the run's page.
    """
    return _run(
        "summarize",
        JobOptions(),
        command="batch-llm run summarize",
        next_step="batch-llm run summarize --source docs.jsonl --output out.jsonl --model google:gemini-3.8-flash",
    )


def run(preset: str, /, *, options: JobOptions | None = None, dry_run: Flag = False, json: Json = False) -> int:
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
    dry_run
        Only say what it would cost, as `batch-llm estimate` does.
    json
        Print the totals as one JSON object, the last line on standard output.
    """
    if dry_run:
        return estimate(preset, options=options, json=json)
    command = shlex.join(["batch-llm", *sys.argv[1:]])
    return _run(preset, options or JobOptions(), command=command, for_program=json)


def _run(name: str, options: JobOptions, *, command: str, for_program: bool = False, next_step: str = "") -> int:
    from batch_llm.cli.terminal.screen import Screen

    screen = Screen(for_program=for_program)
    with screen.phase("Checking the job"):
        from batch_llm.cli.overrides import with_absolute_paths
        from batch_llm.cli.presets import find_preset
        from batch_llm.jobs import BatchJob, check
        from batch_llm.jobs.secrets import KeyMissing

        preset = find_preset(name)
        parameters = options.apply(preset)
        missing: KeyMissing | None = None
        try:
            check(BatchJob.parse(parameters))
        except KeyMissing as error:
            missing = error  # Prefect may have it
    with screen.phase("Loading Prefect"):
        from batch_llm.cli.actions.run import RunRequest, run
    return run(RunRequest(preset, with_absolute_paths(parameters), screen, command, next_step, missing))
