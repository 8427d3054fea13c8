"""Which runs belong to one refresh: one that was interrupted goes on in the next run that refreshes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.ledger.run_folder import job_store
from batch_llm.jobs.storage.json_files import objects_in
from batch_llm.jobs.storage.store import Store


@dataclass(frozen=True, slots=True)
class Refresh:
    """A refresh: the answers of earlier runs don't count, but for those of the runs that it goes on from.

    Attributes:
        runs: The ids of the interrupted runs of this refresh, the first one first; empty for a new refresh.
        answered_by: The ids of the runs whose answers count: those, and whatever ran since the first of them began.
    """

    runs: tuple[str, ...] = ()
    answered_by: tuple[str, ...] = ()


def refresh_of(job: BatchJob, run_id: str) -> Refresh | None:
    """Return the refresh that a run makes or goes on with; None where the job does not refresh.

    A refresh is interrupted where its newest run has no totals (it was killed), or left items that it did not try.
    A run that is planned again, after a crash or by a retry, stays with the refresh of its first plan.

    Raises:
        OSError: The ledger cannot be read.
    """
    if not job.refresh:
        return None
    store = job_store(job)
    plans = _plans(store)
    own = plans.pop(run_id, {}).get("refreshes")
    refreshes = {run: plan for run, plan in plans.items() if plan.get("refreshes") is not None}
    newest = max(refreshes, key=lambda run: _order(refreshes[run]), default=None)
    runs: tuple[str, ...] = ()
    if own is not None:
        runs = tuple(own)
    elif newest is not None and _is_interrupted(store, newest):
        runs = (*refreshes[newest]["refreshes"], newest)
    began = [_order(plans[run]) for run in runs if run in plans]
    since = {run for run, plan in plans.items() if began and _order(plan) > min(began)}
    return Refresh(runs, tuple(sorted({*runs, *since})))


def _plans(store: Store) -> dict[str, dict[str, Any]]:
    """Return the plans of all runs, by their ids; without those that are damaged."""
    found = {name.partition("/")[0]: store.read(name) or b"" for name in store.names("*/plan.json")}
    return {run: plan for run, content in found.items() for plan in objects_in([content])}


def _order(plan: Mapping[str, Any]) -> tuple[int, float]:
    """Return what orders runs: the lease, which no wrong clock changes, then the time."""
    return int(plan.get("lease") or 0), float(plan.get("planned_at") or 0.0)


def _is_interrupted(store: Store, run: str) -> bool:
    try:
        summary = cast("object", json.loads(store.read(f"{run}/summary.json") or b"null"))
    except ValueError:
        return True
    return not isinstance(summary, dict) or bool(cast("dict[str, Any]", summary).get("not_attempted"))
