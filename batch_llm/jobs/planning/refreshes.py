"""Runs that belong to one refresh: the next run with `refresh` continues an interrupted refresh."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.ledger.run_folder import RunFolder
from batch_llm.jobs.storage.json_files import objects_in
from batch_llm.jobs.storage.store import Store


@dataclass(frozen=True, slots=True)
class Refresh:
    """A refresh, which only reuses answers of the interrupted runs that it continues and of later runs.

    Attributes:
        runs: Ids of the interrupted runs of this refresh, oldest first; empty for a new refresh.
        answered_by: Ids of the runs whose answers are reused: `runs` and all runs planned after the first of `runs`.
    """

    runs: tuple[str, ...] = ()
    answered_by: tuple[str, ...] = ()


def refresh_of(job: BatchJob, folder: RunFolder) -> Refresh | None:
    """Return the refresh that a run starts or continues; None if the job does not refresh.

    A refresh is interrupted if its newest run has no totals (it was killed) or has items that were not attempted. It is
    also continued if its newest run, with a smaller `limit`, continued it for some rows only. A run that is planned
    again after a crash or a retry keeps the refresh of its first plan.

    Raises:
        OSError: The ledger cannot be read.
    """
    if not job.refresh:
        return None
    plans = _plans(folder.runs)
    own = plans.pop(folder.path.name, {}).get("refreshes")
    refreshes = {run: plan for run, plan in plans.items() if plan.get("refreshes") is not None}
    newest = max(refreshes, key=lambda run: _order(refreshes[run]), default=None)
    runs: tuple[str, ...] = ()
    if own is not None:
        runs = tuple(own)
    elif newest is not None and (_is_interrupted(folder.runs, newest) or _is_partial(plans, newest, job.limit)):
        runs = (*refreshes[newest]["refreshes"], newest)
    began = [_order(plans[run]) for run in runs if run in plans]
    since = {run for run, plan in plans.items() if began and _order(plan) > min(began)}
    return Refresh(runs, tuple(sorted({*runs, *since})))


def _plans(runs: Store) -> dict[str, dict[str, Any]]:
    """Return the plans of all runs by run id, without damaged plans."""
    found = {name.partition("/")[0]: runs.read(name) or b"" for name in runs.names("*/plan.json")}
    return {run: plan for run, content in found.items() for plan in objects_in([content])}


def _order(plan: Mapping[str, Any]) -> tuple[int, float]:
    """Return the sort key of a run: its lease, which does not depend on a clock, then its time."""
    return int(plan.get("lease") or 0), float(plan.get("planned_at") or 0.0)


def _is_partial(plans: Mapping[str, Mapping[str, Any]], run: str, limit: int | None) -> bool:
    """Return whether a run continued a refresh for fewer rows than the refresh has, and than `limit` selects now."""
    covered = _rows(plans[run].get("limit"))
    whole = max((_rows(plans[each].get("limit")) for each in plans[run]["refreshes"] if each in plans), default=0.0)
    return covered < min(whole, _rows(limit))


def _rows(limit: int | None) -> float:
    return math.inf if limit is None else limit


def _is_interrupted(runs: Store, run: str) -> bool:
    try:
        summary = cast("object", json.loads(runs.read(f"{run}/summary.json") or b"null"))
    except ValueError:
        return True
    return not isinstance(summary, dict) or bool(cast("dict[str, Any]", summary).get("not_attempted"))
