"""Job parameters from a preset and the options of the command."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob, resolve
from batch_llm.jobs.file_references import with_files_read

WHOLE = frozenset({"output_schema"})
"""Settings that are replaced instead of merged: a merge of two schemas is a schema that nobody wrote."""

MOST_BYTES = 512 * 1024
"""Limit for the parameters of a run: the default of PREFECT_SERVER_API_MAX_PARAMETER_SIZE."""

_QUERY = re.compile(r"\s*(select|with|from)\s", re.IGNORECASE)


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Parse `name=value`; a value is JSON if it parses as JSON, else plain text, as in `prefect deployment run -p`.

    A dotted name is a setting inside an object: `config.max_workers=20`.

    Raises:
        JobError: An assignment has no `=`, or no name before it.
    """
    found: dict[str, Any] = {}
    for assignment in assignments:
        dotted, sign, text = assignment.partition("=")
        name, *inner = dotted.strip().split(".")
        if not sign or not all((name, *inner)):
            raise JobError(f"-p: expected name=value, got {assignment!r}")
        if inner and name in WHOLE:
            raise JobError(f"-p: {name} can only be set as a whole, got {assignment!r}")
        value = _value(text)
        for part in reversed(inner):
            value = {part: value}
        found[name] = _merged(found.get(name), value) if inner else value
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def with_overrides(preset: Mapping[str, Any], *overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the preset's parameters with the overrides applied; objects are merged, other values replaced."""
    merged = dict(preset)
    for override in overrides:
        for name, value in override.items():
            merged[name] = value if name in WHOLE else _merged(merged.get(name), value)
    return merged


def check_length(parameters: Mapping[str, Any]) -> None:
    """Check that the parameters are short enough for Prefect.

    Raises:
        JobError: The parameters are too long; the message names the longest.
    """
    size = _size(parameters)
    if size <= MOST_BYTES:
        return
    name, longest = max(((name, _size(value)) for name, value in parameters.items()), key=lambda each: each[1])
    hint = " or put it into a file and write '@' and the file's name" if name == "cached_context" else ""
    raise JobError(
        f"the settings are {size:,} bytes as JSON, and Prefect accepts at most {MOST_BYTES:,}: {name} is "
        f"{longest:,} bytes. Shorten it{hint}, or call batch_llm.prefect.run_batch in your own flow, which has "
        "no such limit"
    )


def _size(value: Any) -> int:
    """Return the size of a value as Prefect counts it: non-ASCII characters are six bytes."""
    return len(json.dumps(value, separators=(",", ":"), default=str))


def _merged(old: Any, new: Any) -> Any:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    result = dict(cast("dict[str, Any]", old))
    for name, value in cast("dict[str, Any]", new).items():
        result[name] = _merged(result.get(name), value)
    return result


def repeatable_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters with absolute paths and the content of `@file`, so that the UI can repeat the run.

    Raises:
        JobError: A file cannot be read, or the parameters are too long for Prefect.
    """
    found = {"ledger": BatchJob.model_fields["ledger"].default, **with_files_read(parameters)}
    for name in ("source", "output", "ledger"):
        if isinstance(found.get(name), str) and _is_path(found[name]):
            found[name] = str(resolve(found[name]))
    context = found.get("cached_context")
    if isinstance(context, str) and context.startswith("@"):
        found["cached_context"] = f"@{resolve(context[1:])}"
    check_length(found)
    return found


def _is_path(text: str) -> bool:
    return bool(text) and text != "samples" and "://" not in text and not _QUERY.match(text)
