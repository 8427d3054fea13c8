"""Tags by which people find runs: the flow run's here, a shard's where its task run gets its name."""

from __future__ import annotations

from collections.abc import Iterable

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

from batch_llm.jobs import ShardOutcome
from batch_llm.prefect.best_effort import contained

WITH_FAILURES = "with-failures"
_ENDS = frozenset({"completed", "failed", "stopped", WITH_FAILURES})


def tag_run(*tags: str) -> None:
    """Add tags to the current flow run; how it ended is told once, also by a run that goes on and ends anew."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    with contained(), get_client(sync_client=True) as client:
        known = set(client.read_flow_run(context.flow_run.id).tags)
        if _ENDS & {*tags}:
            known -= _ENDS
        client.update_flow_run(context.flow_run.id, tags=sorted(known | {*tags}))


def shard_tags(outcome: ShardOutcome) -> Iterable[str]:
    """Return the tags of a shard's task run: what became of it, and each kind of failure in it."""
    ended = "not-finished" if outcome.not_attempted else WITH_FAILURES if outcome.failed else "all-answered"
    return {"shard", ended, *outcome.categories}
