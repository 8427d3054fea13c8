"""`batch-llm estimate`."""

from __future__ import annotations

from batch_llm.cli.options import JobOptions, Json


def estimate(preset: str, /, *, options: JobOptions | None = None, json: Json = False) -> int:
    """Say what a run would cost and how long it would take; no call is made.

    It counts what the ledger would spare, and rests on what earlier calls have
    used. Of a new job it can only guess: run it with --limit 50 first.

    Parameters
    ----------
    preset
        One of those that `batch-llm presets` lists.
    json
        Print one JSON object.
    """
    from batch_llm.cli.actions.estimate import show_estimate
    from batch_llm.cli.presets import find_preset
    from batch_llm.jobs import BatchJob

    found = find_preset(preset)
    job = BatchJob.parse((options or JobOptions()).apply(found))
    return show_estimate(found, job, for_program=json)
