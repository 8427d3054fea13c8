"""From a preset and the command's options to a job's parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob, resolve

WHOLE = frozenset({"output_schema"})
"""Settings that are replaced: two schemas merged would be a third that nobody wrote."""

MOST_BYTES = 512 * 1024
"""Of a run's parameters: the usual value of PREFECT_SERVER_API_MAX_PARAMETER_SIZE."""

_QUERY = re.compile(r"\s*(select|with|from)\s", re.IGNORECASE)


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Read `name=value`; a value is JSON where it can be, else plain text, as `prefect deployment run -p` has it.

    Raises:
        JobError: There is no `=`, or no name before it.
    """
    found: dict[str, Any] = {}
    for assignment in assignments:
        name, sign, value = assignment.partition("=")
        if not sign or not name.strip():
            raise JobError(f"-p {assignment!r} is no setting: write -p name=value")
        found[name.strip()] = _value(value)
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def with_overrides(preset: Mapping[str, Any], *overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the preset's parameters with the overrides over them; objects are merged, other values replaced."""
    merged = dict(preset)
    for override in overrides:
        for name, value in override.items():
            merged[name] = value if name in WHOLE else _merged(merged.get(name), value)
    return merged


def check_length(parameters: Mapping[str, Any]) -> None:
    """Check that Prefect takes a run with these parameters.

    Raises:
        JobError: They are too long; says which one is.
    """
    size = _size(parameters)
    if size <= MOST_BYTES:
        return
    name, longest = max(((name, _size(value)) for name, value in parameters.items()), key=lambda each: each[1])
    hint = " or write it as '@' and a file's name" if name == "cached_context" else ""
    raise JobError(
        f"the settings are {size:,} bytes as JSON, and Prefect takes no run with more than {MOST_BYTES:,}: {name} is "
        f"{longest:,} bytes. Shorten it{hint}, or call batch_llm.prefect.run_batch in a flow of your own, where a "
        "setting may have any length"
    )


def _size(value: Any) -> int:
    """Return how long a value is as Prefect counts, which writes letters beyond ASCII as six bytes."""
    return len(json.dumps(value, separators=(",", ":"), default=str))


def _merged(old: Any, new: Any) -> Any:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    result = dict(cast("dict[str, Any]", old))
    for name, value in cast("dict[str, Any]", new).items():
        result[name] = _merged(result.get(name), value)
    return result


def with_absolute_paths(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters that mean the same in every folder, so that a run can be started again from the UI."""
    found = {"ledger": BatchJob.model_fields["ledger"].default, **parameters}
    for name in ("source", "output", "ledger"):
        if isinstance(found.get(name), str) and _is_path(found[name]):
            found[name] = str(resolve(found[name]))
    context = found.get("cached_context")
    if isinstance(context, str) and context.startswith("@"):
        found["cached_context"] = f"@{resolve(context[1:])}"
    return found


def _is_path(text: str) -> bool:
    return bool(text) and text != "samples" and "://" not in text and not _QUERY.match(text)
