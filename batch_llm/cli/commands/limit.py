"""`batch-llm limit`."""

from __future__ import annotations

from batch_llm.cli.options import loading


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
    with loading():
        from batch_llm.cli.actions.limits import set_limit

    return set_limit(scope, {name: value for name, value in named.items() if value is not None})


def show_limits() -> int:
    """Show the limits that are stated."""
    with loading():
        from batch_llm.cli.actions.limits import show_limits

    return show_limits()


def clear_limit(scope: str, /) -> int:
    """State nothing for a scope any more.

    Parameters
    ----------
    scope
        As `batch-llm limit show` has it.
    """
    with loading():
        from batch_llm.cli.actions.limits import clear_limit

    return clear_limit(scope)
