"""Events of a run are bounded in number and size for any number of items, shards and attempts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect import flow
from prefect.artifacts import Artifact

from batch_llm.jobs import BatchJob, Progress, ShardRef
from batch_llm.observers.base import ProcessingEvent
from batch_llm.prefect import PrefectObserver
from batch_llm.prefect.scheduling.watchers import FailureThresholdEvent
from batch_llm.prefect.telemetry.events import MOST_OF_A_KIND, RunEvents
from batch_llm.prefect.telemetry.progress import ProgressArtifact, worth_showing


@dataclass(frozen=True)
class RecordedEvents(RunEvents):
    """Event publisher that stores events instead of sending them."""

    flow_run_id: str = "run"
    name: str = "job"
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])

    def emit(self, event: str, payload: dict[str, Any], **labels: str) -> None:
        self.events.append((event, payload))


def shard(index: int) -> ShardRef:
    return ShardRef(index=index, first=1, last=100_000, items=100_000, path="shards/00003.jsonl", part="p")


async def test_many_failures_cause_few_events_that_count_all_of_them() -> None:
    recorded = RecordedEvents()
    watching = PrefectObserver(recorded, shard(0))
    for number in range(10_000):
        await watching.on_event(ProcessingEvent.ITEM_FAILED, {"item_id": str(number), "category": "timeout"})
    assert [payload["item_id"] for _, payload in recorded.events][:5] == ["0", "1", "3", "7", "15"]
    assert len(recorded.events) == 14
    assert (
        len(recorded.events) + sum(payload["left_out"] for _, payload in recorded.events) + watching.left_out == 10_000
    )


async def test_rate_limit_event_has_the_cooldown_and_the_new_limit() -> None:
    recorded = RecordedEvents()
    await PrefectObserver(recorded, shard(0)).on_event(ProcessingEvent.RATE_LIMIT_HIT, {"pause": 5.0, "limit": 45.0})
    told = {"shard": 0, "pause_seconds": 5.0, "calls_per_second": 45.0, "left_out": 0}
    assert recorded.events == [("rate-limit.hit", told)]


def test_texts_of_others_in_an_event_are_visible_short_and_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Event payloads are shown in terminals; Prefect drops large ones."""
    monkeypatch.setenv("SOME_API_KEY", "a-key-that-is-secret")
    sent: list[dict[str, Any]] = []

    def emit_event(**event: Any) -> None:
        sent.append(event)

    monkeypatch.setattr("batch_llm.prefect.telemetry.events.emit_event", emit_event)
    error = "\x1b]52;c;cHduZWQ=\x07gone \u202e a-key-that-is-secret"
    payload = {"item_id": "7\x1b[2J", "error": error, "long": "é" * 501, "attempts": 3, "cost_usd": None}
    RunEvents("run", "job").emit("item.failed", payload, category="timeout")
    (event,) = sent
    assert (event["event"], event["resource"]["category"]) == ("batch-llm.item.failed", "timeout")
    assert event["payload"] == {
        "item_id": "7\\x1b[2J",
        "error": "\\x1b]52;c;cHduZWQ=\\x07gone \\u202e ***",
        "long": "é" * 500 + "…",
        "attempts": 3,
        "cost_usd": None,
    }


async def test_successful_items_cause_no_events() -> None:
    recorded = RecordedEvents()
    await PrefectObserver(recorded, shard(0)).on_event(ProcessingEvent.ITEM_COMPLETED, {"item_id": "a"})
    assert recorded.events == []


@given(st.integers(1, 3000), st.integers(1, 20))
def test_shards_of_a_run_share_the_quota_of_events(shards: int, tries: int) -> None:
    """The quota is used completely, and each further attempt of a shard gets half: never more than twice in total."""
    events = RecordedEvents(shards=shards)
    assert sum(events.room_for(index) for index in range(shards)) == MOST_OF_A_KIND
    assert (
        sum(events.room_for(index) >> tried for index in range(shards) for tried in range(tries)) < 2 * MOST_OF_A_KIND
    )


def test_too_many_failures_are_reported_once_during_the_run() -> None:
    recorded = RecordedEvents()
    job = BatchJob.parse({"source": "s", "prompt": "p", "output": "o.csv", "failure_threshold": 0.1})
    threshold = FailureThresholdEvent(job, recorded)
    for failed in (0, 10, 11, 50):
        threshold.emit_if_exceeded(Progress(total=100, failed=failed, categories={"timeout": failed}))
    told = {"failed": 11, "total": 100, "failure_threshold": 0.1, "categories": {"timeout": 11}}
    assert recorded.events == [("failures.threshold", told)]


def test_long_run_updates_its_progress_a_hundred_times() -> None:
    """However often it is read; the first and the last values are always shown."""
    shown: list[float] = []
    for look in range(100_001):
        percent = round(look / 1000, 1)
        if worth_showing(shown[-1] if shown else None, percent):
            shown.append(percent)
    assert (len(shown), shown[0], shown[-1]) == (101, 0.0, 100.0)
    assert worth_showing(99.6, 100.0)
    assert not worth_showing(100.0, 100.0)


@pytest.mark.prefect
def test_progress_updates_have_a_minimum_distance_except_the_last(
    prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch_llm.prefect.telemetry.progress.WRITE_SECONDS", 3600.0)

    @flow(name="paced")
    def paced() -> None:
        artifact = ProgressArtifact("paced")
        for done in (0, 30, 60):
            artifact.show(Progress(total=100, done=done))
        assert _percent("batch-llm-paced-progress") == 0
        artifact.show(Progress(total=100, done=60), last=True)
        assert _percent("batch-llm-paced-progress") == 60

    paced()


def _percent(key: str) -> float:
    found: Any = Artifact.get(key)  # another class than it says
    return found.data
