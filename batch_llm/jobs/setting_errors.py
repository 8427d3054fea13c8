"""One-line messages for settings of a job that are not valid."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields

from pydantic_core import ErrorDetails

from batch_llm.config import Limits, ProcessorConfig, RateLimitConfig, RetryConfig

from .runner_options import RunnerOptions

_PARTS = {
    "config": ProcessorConfig,
    "config.rate_limit": RateLimitConfig,
    "config.retry": RetryConfig,
    "limits": Limits,
    "shard_retry": RetryConfig,
    "runner_options": RunnerOptions,
}
"""Settings that are objects, and their classes."""

_SIMILAR, _VERY_SIMILAR = 0.6, 0.8
"""Least similarity of a suggestion in the same object, and of one anywhere else."""

_IS_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def format_errors(errors: Sequence[ErrorDetails], settings: Sequence[str]) -> str:
    """Return one line about the first error: the name of a setting, its value and the rule that it breaks.

    An unknown name comes first, because it is often a misspelled setting that is then missing.

    Args:
        errors: Errors of pydantic.
        settings: Names of the job's settings.
    """
    return _format_error(next((error for error in errors if error["type"] in _IS_UNKNOWN), errors[0]), settings)


def _format_error(error: ErrorDetails, settings: Sequence[str]) -> str:
    place = ".".join(str(part) for part in error["loc"])
    context = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return f"{place} is missing: set it"
        case kind if kind in _IS_UNKNOWN:
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
    is_known = parent in _PARTS
    siblings = [field.name for field in fields(_PARTS[parent])] if is_known else list(settings)
    prefix = f"{parent}." if is_known else ""
    nearest = _nearest(name, [f"{prefix}{sibling}" for sibling in siblings], _SIMILAR)
    nearest = nearest or _nearest(name, _all_settings(settings), _VERY_SIMILAR)
    return f"{place} is not a setting: " + (f"did you mean {nearest!r}?" if nearest else f"use {', '.join(siblings)}")


def _nearest(name: str, paths: Iterable[str], cutoff: float) -> str:
    """Return the first of the paths whose last name is the most similar to `name`; empty if none is similar."""
    names: dict[str, str] = {}
    for path in paths:
        names.setdefault(path.rpartition(".")[2], path)
    near = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    return names[near[0]] if near else ""


def _all_settings(settings: Iterable[str]) -> Iterator[str]:
    from pydantic_ai.settings import ModelSettings  # takes a second, so that only an error imports it

    yield from settings
    for place, part in _PARTS.items():
        yield from (f"{place}.{field.name}" for field in fields(part))
    yield from (f"model_settings.{name}" for name in ModelSettings.__annotations__)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
