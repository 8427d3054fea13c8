"""`batch-llm try`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from batch_llm.cli.options import Json, TrialOptions


def try_(
    preset: str,
    /,
    *,
    model: Annotated[list[str] | None, Parameter(negative=())] = None,
    limit: int = 3,
    options: TrialOptions | None = None,
    json: Json = False,
) -> int:
    """Print a model's answers to the first rows next to their prompts.

    It needs no server. The answers are paid for and are not stored: a later run
    calls these rows again. With several models, it prints for each field how
    often they agree, and what each costs.

    Examples:

      batch-llm try summarize --source docs.jsonl --model openai-chat:gpt-6-luna
      batch-llm try classify --limit 20 --model openai-chat:gpt-6-luna \\
          --model anthropic:claude-haiku-5-5

    Exit codes: 0 if all rows were answered, 1 if not, 2 when the job is
    invalid, 130 after Ctrl-C.

    Parameters
    ----------
    preset
        Name of a preset; `batch-llm presets` lists them.
    model
        provider:model, or local; repeat it to compare models. Default: the preset's model.
    limit
        Number of rows, at most 100.
    json
        Print one JSON object.
    """
    from batch_llm.cli.actions.trial import TrialRequest, try_models
    from batch_llm.cli.presets import find_preset

    found = find_preset(preset)
    parameters = (options or TrialOptions()).apply(found)
    return try_models(TrialRequest(found.name, parameters, model or [], limit), for_program=json)
