"""`batch-llm estimate`."""

from __future__ import annotations

from batch_llm.cli.options import JobOptions, Json


def estimate(preset: str, /, *, options: JobOptions | None = None, json: Json = False) -> int:
    """Estimate the cost and the time of a run, without calling the model.

    The estimate leaves out items that the ledger already has answers for, and
    is based on earlier calls. For a new job it is a guess: run it with
    --limit 50 first for a better estimate.

    Parameters
    ----------
    preset
        Name of a preset; `batch-llm presets` lists them.
    json
        Print one JSON object.
    """
    from batch_llm.cli.actions.estimate import show_estimate
    from batch_llm.cli.presets import find_preset
    from batch_llm.jobs import BatchJob

    found = find_preset(preset)
    job = BatchJob.parse((options or JobOptions()).apply(found))
    return show_estimate(found, job, for_program=json)
