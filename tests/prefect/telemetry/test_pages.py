"""Pages of a run of 200 items in the real Prefect UI, opened in headless Chromium."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.support.browser import MISSING, Browser, browser
from tests.support.flow_file import load_flow
from tests.support.prefect_server import eventually
from tests.support.servers import Call, OpenAIServer, Reply

pytestmark = [pytest.mark.prefect, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

ITEMS = 200
FILTERED, TOO_LONG, BUSY, REFUSED = range(29, ITEMS, 29), (67, 134), range(23, ITEMS, 23), 120
"""The numbers of the tickets that fail for good, fail once, and meet the rate limit."""

SENTENCE = "192 of 200 answered, 8 failed (6 content_filter, 2 invalid_request)"
SCHEMA = {
    "type": "object",
    "properties": {"category": {"type": "string"}, "reply": {"type": "string"}},
    "required": ["category", "reply"],
}


@dataclass(frozen=True)
class Seen:
    """A run, its artifacts, and the browser that opens them; `refresh` runs the job again, which makes a trend."""

    ui: str
    refresh: Callable[[], Any]
    run: str
    artifacts: dict[str, str]
    browser: Browser

    def artifact(self, kind: str, *shown: str) -> str:
        return self.browser.open(f"{self.ui}/artifacts/artifact/{self.artifacts[f'batch-llm-tickets-{kind}']}", *shown)


def bad_day(provider: OpenAIServer) -> Callable[[Call], Reply | None]:
    """Return a rule with rate limits and failures."""
    draw = random.Random(7)

    def rule(call: Call) -> Reply | None:
        number, tries = int(call.prompt.split()[1]), provider.prompts[call.prompt]
        if number in FILTERED:
            return OpenAIServer.content_filter(None)
        if number in TOO_LONG:
            return OpenAIServer.too_long()
        if number == REFUSED and tries == 1:
            return OpenAIServer.rate_limit(retry_after=2)
        if number in BUSY and tries == 1:
            return OpenAIServer.overloaded()
        return Reply(delay=draw.random() * 0.2)

    return rule


@pytest.fixture(scope="module")
def seen(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    from prefect.client.orchestration import get_client

    folder = tmp_path_factory.mktemp("pages")
    subjects = ("a refund", "a broken lamp", "a late parcel")
    tickets = [{"id": f"ticket-{n}", "text": f"{n} about {subjects[n % 3]}"} for n in range(1, ITEMS + 1)]
    (folder / "tickets.jsonl").write_text("".join(json.dumps(ticket) + "\n" for ticket in tickets))
    with pytest.MonkeyPatch.context() as patch, OpenAIServer(latency=0.05) as provider:
        patch.setenv("BATCH_LLM_HOME", str(folder))
        patch.setenv("OPENAI_BASE_URL", provider.base_url)
        patch.setenv("OPENAI_API_KEY", "test-key-that-is-no-secret")
        provider.rule = bad_day(provider)
        job: dict[str, Any] = {
            "name": "tickets",
            "source": "tickets.jsonl",
            "output": "answers.jsonl",
            "prompt": "Ticket {text}",
            "model": "openai-chat:gpt-4.1-mini",
            "output_schema": SCHEMA,
            "shard_size": 50,
            "config": {"max_workers": 20, "retry": {"max_attempts": 2, "initial_wait": 0.2}},
            "shard_retry": {"max_attempts": 1},
        }
        state = load_flow()(**job, return_state=True)
        assert state.message.startswith(SENTENCE)
        run = str(state.state_details.flow_run_id)
        with get_client(sync_client=True) as client:
            found = client._client.post(  # pyright: ignore[reportPrivateUsage]  the plainest way
                "/artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [run]}}}
            ).json()
        artifacts = {artifact["key"]: artifact["id"] for artifact in found}
        refresh = partial(load_flow(), **job, refresh=True, return_state=True)
        with browser(folder) as opened:
            yield Seen(prefect_api.removesuffix("/api"), refresh, run, artifacts, opened)


def test_page_of_the_run_has_its_outcome(seen: Seen) -> None:
    text = seen.browser.open(f"{seen.ui}/runs/flow-run/{seen.run}", "Completed", SENTENCE, "6 Task runs")
    assert {"tickets", "openai-chat:gpt-4.1-mini", "completed", "with-failures"} <= {*text.split()}
    seen.browser.keep("run")
    seen.browser.click("Task Runs")
    seen.browser.wait("items 1-50: 49 answered, 1 failed (1 content_filter)", "with-failures", "content_filter")
    seen.browser.keep("task-runs")


@pytest.mark.whole
def test_page_of_the_report_has_failures_cost_and_speed(seen: Seen) -> None:
    shown = (
        "Failures",
        "content_filter 6 3.0%",
        "invalid_request 2 1.0%",
        "Cost",
        "Speed",
        "1, cooldowns of 2 s in total",
    )
    text = seen.artifact("report", f"Completed: {SENTENCE}", *shown)
    assert "maximum context length" in text
    assert "openai-chat:gpt-4.1-mini 209 " in text, "attempts: 200 items, 8 tried again, one refused"
    assert eventually(seen.browser.pictures) == [(960, 210)]
    seen.browser.keep("report")


@pytest.mark.whole
def test_page_of_the_results_has_failures_first_and_the_path_of_the_output(seen: Seen) -> None:
    text = seen.artifact("results", SENTENCE, "answers.jsonl", "answers.failures.jsonl", "200 Items")
    first_answer = "ticket-1 Ticket 1 about a broken lamp Ticket 1 about a broken lamp ok"
    assert text.index("ticket-29 content_filter") < text.index("ticket-67 invalid_request") < text.index(first_answer)
    seen.browser.keep("results")


@pytest.mark.whole
def test_the_page_of_the_history_shows_the_trend(seen: Seen) -> None:
    assert seen.refresh().is_completed()
    seen.browser.open(f"{seen.ui}/artifacts/key/batch-llm-tickets-history", "batch-llm-tickets-history", "publish")
    assert eventually(seen.browser.pictures) == [(960, 420)]
    seen.browser.keep("history")


@pytest.mark.whole
def test_page_of_the_progress_shows_100_percent(seen: Seen) -> None:
    seen.artifact(
        "progress", "200 of 200 items of tickets done", "8 failed (6 content_filter, 2 invalid_request)", "100%"
    )


@pytest.mark.whole
def test_event_feed_has_the_events_to_act_on(seen: Seen) -> None:
    feed = f"{seen.ui}/events?resource=batch-llm.run.{seen.run}"
    text = seen.browser.open(feed, "batch-llm.run.completed", "batch-llm.rate-limit.hit", "batch-llm.item.failed")
    assert "batch-llm.shard.completed" in text
    seen.browser.keep("events")
