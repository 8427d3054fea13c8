"""Publishing of outputs: an incomplete run never replaces the output of a complete run.

<ledger>/<name>/published.json    for each output: whether a complete run wrote it, and the place of later partial rows
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, cast

from batch_llm.errors import JobError
from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.sinks import OutputPlace, open_sink
from batch_llm.jobs.sources import open_source
from batch_llm.jobs.storage.duckdb_session import Tables
from batch_llm.jobs.storage.json_files import to_json
from batch_llm.jobs.storage.paths import resolve
from batch_llm.jobs.storage.store import Store

from .lease import newest_lease

_NOTES = "published.json"
_IN_EVERY_OUTPUT = frozenset({"error_category", "error", "attempts"})
"""Columns of every output and every failures file."""


@dataclass(frozen=True, slots=True)
class Published:
    """Published state of an output.

    Attributes:
        complete: Whether the run that wrote the output last was complete.
        partial: Place of the rows of a later, incomplete run; empty if there is none.
    """

    complete: bool = True
    partial: str = ""


def place_to_publish(
    tables: Tables, job: BatchJob, output: OutputPlace, store: Store, *, complete: bool
) -> OutputPlace:
    """Return the place to write a run's rows to: the output, or its partial place.

    Args:
        tables: A session, to read what is at the partial place.
        job: The job.
        output: The job's output.
        store: The folder of the job's name.
        complete: Whether the run has called all items, and no more items failed than the job allows.

    Raises:
        JobError: The output cannot be reached, or a file or table that no run of the job wrote is at its partial place.
    """
    if complete or job.publish == "always":
        return output
    known = _read(store).get(output.place)
    is_replaceable = known is not None and not known.complete
    if is_replaceable or not open_sink(output).exists():
        return output
    partial = output.partial
    if known is None or known.partial != partial.place:
        for other in (partial, partial.failures):
            if open_sink(other).exists() and not _looks_like_rows_of_a_run(tables, other):
                raise JobError(
                    f"{other.place} exists, and no run of this job wrote it: move or delete it, because rows of an "
                    "incomplete run are written there, or set publish to 'always'"
                )
    return partial


def _looks_like_rows_of_a_run(tables: Tables, output: OutputPlace) -> bool:
    """Return whether an earlier run wrote a place that the ledger does not know, as after the ledger was deleted."""
    if output.partition_by and (folder := resolve(output.place)).is_dir():
        return all("=" in part.name for part in folder.iterdir())
    try:
        columns = open_source(tables, output.place).columns(_IN_EVERY_OUTPUT)
    except JobError:
        return False
    return {*columns} >= _IN_EVERY_OUTPUT


def record_published(output: OutputPlace, store: Store, place: OutputPlace, *, complete: bool) -> None:
    """Record the state of an output; after a complete run, remove the partial rows of earlier runs.

    Args:
        output: The job's output.
        store: The folder of the job's name.
        place: Where the rows of the run were written.
        complete: Whether the run was complete.

    Raises:
        JobError: The partial rows cannot be removed.
        OSError: The ledger cannot be written.
    """
    known = _read(store)
    before = known.get(output.place, Published())
    if place != output:
        known[output.place] = Published(before.complete, place.place)
    else:
        if complete and before.partial:
            partial = OutputPlace.parse(before.partial, output.partition_by)
            open_sink(partial).remove()
            open_sink(partial.failures).remove()
        known[output.place] = Published(complete, "" if complete else before.partial)
    store.write(_NOTES, to_json({place: asdict(about) for place, about in known.items()}).encode())


def lease_check(store: Store, lease: int) -> Callable[[], None]:
    """Return a function that checks that no other run has taken over the ledger; call it right before a replacement.

    Args:
        store: The folder of the job's name.
        lease: Number of the run's lease; 0 for a run without a lease.
    """

    def check() -> None:
        try:
            taken = lease > 0 and newest_lease(store) > lease
        except OSError as error:
            raise JobError(f"ledger {store.address} cannot be read: {error}") from error
        if taken:
            raise JobError(
                f"another run took over the ledger {store.address}, because this run had sent no heartbeat: the other "
                "run's output is kept, and this run's answers are in the ledger"
            )

    return check


def _read(store: Store) -> dict[str, Published]:
    found: object = None
    with suppress(ValueError, OSError):
        found = json.loads(store.read(_NOTES) or b"{}")
    known = cast("dict[str, dict[str, Any] | None]", found) if isinstance(found, dict) else {}
    return {
        output: Published(bool(about.get("complete", True)), str(about.get("partial") or ""))
        for output, about in known.items()
        if isinstance(about, dict)
    }
