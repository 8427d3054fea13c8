"""One-line messages for settings of a job that are not valid."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import fields

from pydantic_core import ErrorDetails

from batch_llm.config import Limits, ProcessorConfig, RateLimitConfig, RetryConfig

from .runner import RunnerOptions

_PARTS = {
    "config": ProcessorConfig,
    "config.rate_limit": RateLimitConfig,
    "config.retry": RetryConfig,
    "limits": Limits,
    "shard_retry": RetryConfig,
    "runner_options": RunnerOptions,
}
"""Settings that are objects, and their classes."""


def format_error(error: ErrorDetails, settings: Sequence[str]) -> str:
    """Return one line with the name of a setting, its value and the rule that it breaks.

    Args:
        error: Error of pydantic.
        settings: Names of the job's settings.
    """
    place = ".".join(str(part) for part in error["loc"])
    context = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return f"{place} is missing: set it"
        case "extra_forbidden" | "unexpected_keyword_argument":
            return _unknown(place, settings)
        case "greater_than_equal":
            rule = f"must be {context['ge']:g} or more"
        case "greater_than":
            rule = f"must be more than {context['gt']:g}"
        case "less_than_equal":
            rule = f"must be {context['le']:g} or less"
        case "value_error":
            rule = str(context["error"])
        case "string_too_short":
            rule = "must not be empty"
        case "string_pattern_mismatch":
            rule = "must be lower-case letters, digits and '-', such as 'nightly-tickets'"
        case "literal_error":
            rule = f"must be one of {context['expected']}"
        case _:
            rule = error["msg"][:1].lower() + error["msg"][1:]
    if not place:  # a rule about several settings; its text names them
        return rule
    value: object = error["input"]
    return f"{place}: {rule}" if isinstance(value, dict) else f"{place} is {_shown(value)}: {rule}"


def _unknown(place: str, settings: Sequence[str]) -> str:
    parent, _, name = place.rpartition(".")
    known = [field.name for field in fields(_PARTS[parent])] if parent in _PARTS else settings
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"use {', '.join(known)}"
    return f"{place} is not a setting: {hint}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
