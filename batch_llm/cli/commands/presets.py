"""`batch-llm presets`, `show` and `new`."""

from __future__ import annotations

from batch_llm.cli.options import JobOptions, Json


def presets() -> None:
    """List the presets: model, source, output, schedule."""
    from batch_llm.cli.presets import print_presets

    print_presets()


def show(preset: str, /, *, options: JobOptions | None = None, json: Json = False) -> int:
    """Show what a preset would send: its first prompt, the answer's shape, model and settings.

    It makes no call, and needs neither a key nor a server. It takes the
    options of `batch-llm run`, so that they can be tried out:

      batch-llm show summarize --source docs.jsonl --prompt 'Title: {text}'

    Parameters
    ----------
    preset
        One of those that `batch-llm presets` lists.
    json
        Print one JSON object.
    """
    from batch_llm.cli.actions.show import show
    from batch_llm.cli.presets import find_preset
    from batch_llm.jobs import BatchJob

    found = find_preset(preset)
    return show(found, BatchJob.parse((options or JobOptions()).apply(found)), for_program=json)


def new(
    name: str, /, *, like: str = "", schema: str = "", description: str = "", options: JobOptions | None = None
) -> int:
    """Write a preset of your own, for `batch-llm run NAME`.

    It is a block of YAML in batch-llm.yaml, in this folder (in a checkout of
    batch-llm itself: in deployments/prefect.yaml), to be edited by hand later.

    Examples:

      batch-llm new tickets --source tickets.csv \\
          --model openai-chat:gpt-6-luna --prompt 'Is this urgent? {text}'
      batch-llm new letters --like classify --source 'letters/*.txt'

    Parameters
    ----------
    name
        Lower-case letters, digits and '-'.
    like
        A preset to start from; what you set is set over it.
    schema
        The shape of the answer: a file with a JSON Schema of type object, or that schema itself.
    description
        One line for `batch-llm presets` and the UI.
    """
    from batch_llm.cli.actions.new_preset import new

    return new(name, options or JobOptions(), like=like, schema=schema, description=description)
