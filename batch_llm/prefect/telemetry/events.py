"""Prefect events of a run: names, payloads, resources and size limits; secrets are redacted.

batch-llm.run.waiting          waits_for
batch-llm.run.started          source, model, total, reused, shards
batch-llm.shard.completed      shard, first, last, succeeded, failed, not_attempted, cost_usd, left_out
batch-llm.item.failed          item_id, category, error, attempts, shard, left_out
batch-llm.rate-limit.hit       pause_seconds, calls_per_second (after it), shard, left_out
batch-llm.failures.threshold   failed, total, failure_threshold, categories
batch-llm.budget.warning       setting, scope (run, month), unit (usd, tokens), budget, spent, left; when 80 % is spent
batch-llm.budget.exhausted     same payload; no further call fits into it
batch-llm.run.completed        the run's totals; also as batch-llm.run.failed and batch-llm.run.stopped

A run emits at most `MOST_OF_A_KIND` events of each kind that a shard sends, divided among its shards; `left_out` counts
those that were not sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefect.events import emit_event

from batch_llm.jobs.secrets import redact
from batch_llm.jobs.untrusted_text import visible
from batch_llm.prefect.best_effort import best_effort

MOST_OF_A_KIND = 100

MOST_TEXT = 500
"""Maximum characters of a text in a payload: Prefect silently drops oversized events."""


@dataclass(frozen=True, slots=True)
class RunEvents:
    """Emitter of events for the flow run's timeline and the event feed.

    Attributes:
        flow_run_id: Id of the Prefect flow run.
        name: The job's name.
        shards: Number of shards that divide the number of events.
    """

    flow_run_id: str
    name: str
    shards: int = 1

    def room_for(self, shard: int) -> int:
        """Return the number of events of a kind that a shard may send."""
        return MOST_OF_A_KIND * (shard + 1) // self.shards - MOST_OF_A_KIND * shard // self.shards

    def emit(self, event: str, payload: dict[str, Any], **labels: str) -> None:
        """Queue the event `batch-llm.<event>` in Prefect's sender and return at once.

        Args:
            event: Name of the event.
            payload: Payload of the event.
            **labels: Labels of the event's resource, which triggers can match.
        """
        flow_run = f"prefect.flow-run.{self.flow_run_id}"
        with best_effort():
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
