"""`batch-llm limit`."""

from __future__ import annotations

from batch_llm.cli.options import Json, loading


def set_limit(
    scope: str,
    /,
    *,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    input_tokens_per_minute: float | None = None,
    output_tokens_per_minute: float | None = None,
) -> int:
    """Set the rate limits of a scope; running jobs pick them up within seconds.

    They are shown in the UI under Variables. Limits without an option stay as
    they are.

    Parameters
    ----------
    scope
        The model's name, such as openai-chat:gpt-6-luna, or the limit_scope of the runs.
    requests_per_minute
        Calls per minute.
    tokens_per_minute
        Input and output tokens per minute, together.
    input_tokens_per_minute
        Input tokens per minute.
    output_tokens_per_minute
        Output tokens per minute.
    """
    named = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "input_tokens_per_minute": input_tokens_per_minute,
        "output_tokens_per_minute": output_tokens_per_minute,
    }
    with loading():
        from batch_llm.cli.actions.limits import set_limit

    return set_limit(scope, {name: value for name, value in named.items() if value is not None})


def show_limits(*, json: Json = False) -> int:
    """Show the limits of all scopes.

    Parameters
    ----------
    json
        Print one JSON object with the limits of each scope.
    """
    with loading():
        from batch_llm.cli.actions.limits import show_limits

    return show_limits(for_program=json)


def clear_limit(scope: str, /) -> int:
    """Remove the limits of a scope.

    Parameters
    ----------
    scope
        Scope as `batch-llm limit show` prints it.
    """
    with loading():
        from batch_llm.cli.actions.limits import clear_limit

    return clear_limit(scope)
