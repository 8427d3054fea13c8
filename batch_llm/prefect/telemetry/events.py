"""Prefect events of one run: their names, whom they are about, and how large they may be; secrets are taken out.

batch-llm.run.waiting          waits_for
batch-llm.run.started          source, model, total, reused, shards
batch-llm.shard.completed      shard, first, last, succeeded, failed, not_attempted, cost_usd, left_out
batch-llm.item.failed          item_id, category, error, attempts, shard, left_out
batch-llm.rate-limit.hit       pause_seconds, calls_per_second (after it), shard, left_out
batch-llm.failures.threshold   failed, total, failure_threshold, categories
batch-llm.budget.warning       setting, scope (run, month), unit (usd, tokens), budget, spent, left; when 80 % is spent
batch-llm.budget.exhausted     the same; no further call fits into it
batch-llm.run.completed        the run's totals; also as batch-llm.run.failed and batch-llm.run.stopped

A run has room for `MOST_OF_A_KIND` events of each kind that a shard sends, shared out among its shards, however many
items and shards it has; `left_out` counts those that were not sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefect.events import emit_event

from batch_llm.jobs.secrets import redact
from batch_llm.jobs.untrusted_text import visible
from batch_llm.prefect.best_effort import contained

MOST_OF_A_KIND = 100

MOST_TEXT = 500
"""Characters of a text in a payload: Prefect drops oversized events without a word."""


@dataclass(frozen=True, slots=True)
class RunEvents:
    """Emits events that stand on the flow run's timeline and in the event feed.

    Attributes:
        flow_run_id: Id of the Prefect flow run.
        name: The job's name.
        shards: Shards that share the room for events.
    """

    flow_run_id: str
    name: str
    shards: int = 1

    def room_for(self, shard: int) -> int:
        """Return how many events of a kind a shard may send."""
        return MOST_OF_A_KIND * (shard + 1) // self.shards - MOST_OF_A_KIND * shard // self.shards

    def emit(self, event: str, payload: dict[str, Any], **labels: str) -> None:
        """Hand `batch-llm.<event>` to Prefect's own sender, and return at once.

        Args:
            event: Its name.
            payload: What it tells.
            **labels: Labels of its resource, which triggers can ask for.
        """
        flow_run = f"prefect.flow-run.{self.flow_run_id}"
        with contained():
            emit_event(
                event=f"batch-llm.{event}",
                resource={
                    "prefect.resource.id": f"batch-llm.run.{self.flow_run_id}",
                    "prefect.resource.name": self.name,
                    **labels,
                },
                related=[{"prefect.resource.id": flow_run, "prefect.resource.role": "flow-run"}],
                payload={key: _fit(value) for key, value in payload.items()},
            )


def _fit(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = visible(redact(value))
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}…"
