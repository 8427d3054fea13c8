"""`batch-llm presets`, `show` and `new`."""

from __future__ import annotations

from batch_llm.cli.options import JobOptions, Json


def presets(*, json: Json = False) -> None:
    """List the presets with model, source and schedule.

    Parameters
    ----------
    json
        Print one JSON object per preset, in a list.
    """
    from batch_llm.cli.presets import print_presets

    print_presets(for_program=json)


def show(preset: str, /, *, options: JobOptions | None = None, json: Json = False) -> int:
    """Show what a preset would send: first prompt, output schema, model and settings.

    It calls no model, and needs neither a key nor a server. It takes the
    options of `batch-llm run`, so that you can try them out:

      batch-llm show summarize --source docs.jsonl --prompt 'Title: {text}'

    Parameters
    ----------
    preset
        Name of a preset; `batch-llm presets` lists them.
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
    """Create a preset, which `batch-llm run NAME` runs.

    It is added as a YAML block to batch-llm.yaml in the current folder (in a
    checkout of batch-llm itself: to deployments/prefect.yaml). Edit it there.

    Examples:

      batch-llm new tickets --source tickets.csv \\
          --model openai-chat:gpt-6-luna --prompt 'Is this urgent? {text}'
      batch-llm new letters --like classify --source 'letters/*.txt'

    Parameters
    ----------
    name
        Name of the preset: lower-case letters, digits and '-'.
    like
        Preset to start from; your options override its settings.
    schema
        Output schema: a file with a JSON Schema of type object, or the schema itself.
    description
        One line for `batch-llm presets` and the UI.
    """
    from batch_llm.cli.actions.new_preset import new

    return new(name, options or JobOptions(), like=like, schema=schema, description=description)
