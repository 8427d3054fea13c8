"""Tags to find runs by: of the flow run, and of the task run of a shard."""

from __future__ import annotations

from collections.abc import Iterable

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

from batch_llm.jobs import ShardOutcome
from batch_llm.prefect.best_effort import best_effort

WITH_FAILURES = "with-failures"
_ENDS = frozenset({"completed", "failed", "stopped", WITH_FAILURES})


def tag_run(*tags: str) -> None:
    """Add tags to the current flow run; an outcome tag replaces the one of an earlier try."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    with best_effort(), get_client(sync_client=True) as client:
        known = set(client.read_flow_run(context.flow_run.id).tags)
        if _ENDS & {*tags}:
            known -= _ENDS
        client.update_flow_run(context.flow_run.id, tags=sorted(known | {*tags}))


def shard_tags(outcome: ShardOutcome) -> Iterable[str]:
    """Return the tags of a shard's task run: its outcome and its failure categories."""
    ended = "not-finished" if outcome.not_attempted else WITH_FAILURES if outcome.failed else "all-answered"
    return {"shard", ended, *outcome.categories}
