"""Events of a shard are bounded in number and in size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from batch_llm.jobs import ShardRef
from batch_llm.observers.base import ProcessingEvent
from batch_llm.prefect import PrefectObserver
from batch_llm.prefect.events import RunEvents


@dataclass
class Heard:
    """Stands where the events go."""

    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])

    def emit(self, event: str, payload: dict[str, Any]) -> None:
        self.events.append((event, payload))


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def observer(heard: Heard, clock: Clock) -> PrefectObserver:
    shard = ShardRef(index=3, first=1, last=100_000, items=100_000, path="shards/00003.jsonl", part="p")
    return PrefectObserver(cast("RunEvents", heard), shard, clock)


async def test_many_failures_make_few_events_and_none_is_forgotten() -> None:
    heard, clock = Heard(), Clock()
    watching = observer(heard, clock)
    for number in range(10_000):
        clock.now = number * 0.01  # 100 seconds in all
        await watching.on_event(ProcessingEvent.ITEM_FAILED, {"item_id": str(number), "category": "timeout"})
    assert len(heard.events) <= 15
    assert len(heard.events) + sum(payload["left_out"] for _, payload in heard.events) + watching.left_out == 10_000


async def test_a_rate_limit_tells_its_pause_and_the_limit_after_it() -> None:
    heard = Heard()
    await observer(heard, Clock()).on_event(ProcessingEvent.RATE_LIMIT_HIT, {"pause": 5.0, "limit": 45.0})
    assert heard.events == [("rate-limit.hit", {"shard": 3, "pause_seconds": 5.0, "calls_per_second": 45.0})]


async def test_items_that_succeed_are_no_events() -> None:
    heard = Heard()
    await observer(heard, Clock()).on_event(ProcessingEvent.ITEM_COMPLETED, {"item_id": "a"})
    assert heard.events == []
