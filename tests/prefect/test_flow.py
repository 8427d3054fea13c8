"""The flow `batch-llm` over real HTTP: files, artifacts and events of a run."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from tests.support.prefect_server import eventually, rows
from tests.support.servers import OK, Call, OpenAIServer, Reply

pytestmark = pytest.mark.prefect

SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "test-key-that-is-no-secret")
        yield server


@pytest.fixture
def run(prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs the flow in this process, in a folder with 12 documents, and returns its state."""
    from tests.support.flow_file import load_flow

    monkeypatch.setenv("BATCH_LLM_HOME", str(tmp_path))
    docs = [{"id": f"d{number}", "text": f"document {number}"} for number in range(1, 13)]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    flow = load_flow()

    def call(**parameters: Any) -> Any:
        defaults: dict[str, Any] = {
            "name": "trial",
            "source": "docs.jsonl",
            "output": "out.jsonl",
            "prompt": "Summarize {text}",
            "model": "openai-chat:gpt-4.1-mini",
            "output_schema": SCHEMA,
            "config": {"max_workers": 3, "retry": {"max_attempts": 1}},
            "shard_retry": {"max_attempts": 1},
        }
        return flow(**(defaults | parameters), return_state=True)

    return call


def api(path: str, body: dict[str, Any]) -> Any:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client._client.post(path, json=body).json()  # pyright: ignore[reportPrivateUsage]  the plainest way


def task_runs(state: Any) -> list[dict[str, Any]]:
    runs = {"flow_runs": {"id": {"any_": [str(state.state_details.flow_run_id)]}}}
    return api("/task_runs/filter", {**runs, "limit": 50, "sort": "EXPECTED_START_TIME_ASC"})


def flow_run_of(state: Any) -> dict[str, Any]:
    (found,) = api("/flow_runs/filter", {"flow_runs": {"id": {"any_": [str(state.state_details.flow_run_id)]}}})
    return found


def artifacts(state: Any) -> dict[str, dict[str, Any]]:
    only = {"artifacts": {"flow_run_id": {"any_": [str(state.state_details.flow_run_id)]}}}
    return {artifact["key"]: artifact for artifact in api("/artifacts/filter", {**only, "limit": 50})}


def events(state: Any) -> list[dict[str, Any]]:
    resource = f"batch-llm.run.{state.state_details.flow_run_id}"
    return api("/events/filter", {"filter": {"resource": {"id": [resource]}}, "limit": 50})["events"]


@pytest.mark.shell
def test_run_answers_every_item_and_reports_it(run: Any, provider: OpenAIServer, tmp_path: Path) -> None:
    """Output, state, task runs, artifacts and events agree."""
    state = run(shard_size=5)
    assert state.is_completed()
    assert state.message.startswith("12 of 12 answered, $0.0000")
    assert provider.requests == 12
    output = rows(tmp_path / "out.jsonl")
    assert [row["id"] for row in output] == [f"d{number}" for number in range(1, 13)]
    assert all(row["status"] == "succeeded" and row["title"] and row["attempts"] == 1 for row in output)
    assert sum(row["input_tokens"] for row in output) == provider.input_tokens
    assert not (tmp_path / "out.failures.jsonl").exists()

    wanted = {
        "plan",
        "items 1-5: 5 answered",
        "items 6-10: 5 answered",
        "items 11-12: 2 answered",
        "publish",
    }
    eventually(lambda: {task["name"] for task in task_runs(state) if task["state_type"] == "COMPLETED"} == wanted)
    found = artifacts(state)
    table = json.loads(found["batch-llm-trial-results"]["data"])
    assert [row["item"] for row in table] == [row["id"] for row in output]
    assert found["batch-llm-trial-report"]["description"] == f"**Completed**: {state.message}"
    assert "| in the source | answered | failed |" in found["batch-llm-trial-report"]["data"]
    assert "| 12 of 12 |" in found["batch-llm-trial-history"]["data"]
    assert found["batch-llm-trial-progress"]["data"] == 100
    names = ["batch-llm.run.started", *["batch-llm.shard.completed"] * 3, "batch-llm.run.completed"]
    eventually(lambda: len(events(state)) >= len(names))
    published = events(state)
    assert sorted(event["event"] for event in published) == sorted(names)
    flow_run = f"prefect.flow-run.{state.state_details.flow_run_id}"
    assert all(flow_run in {related["prefect.resource.id"] for related in event["related"]} for event in published)
    assert flow_run_of(state)["tags"] == ["completed", "openai-chat:gpt-4.1-mini", "trial"]
    tagged = {task["name"]: task["tags"] for task in task_runs(state)}
    assert tagged["items 1-5: 5 answered"] == ["all-answered", "shard"]


def test_results_are_written_while_the_runner_of_the_shards_ends(
    run: Any, tmp_path: Path, provider: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool of processes takes seconds to exit."""
    from batch_llm.prefect.scheduling import runners

    ends: list[object] = []

    @contextmanager
    def slow_to_end(load: runners.ShardWorkload) -> Generator[runners.ShardSubmitter]:
        with runners.RUNNERS["auto"](load) as submitter:
            yield submitter
            ends.append(eventually(lambda: next(tmp_path.glob(".batch-llm/trial/*/summary.json"), None), seconds=30))

    monkeypatch.setitem(runners.RUNNERS, "threads", slow_to_end)
    assert run(runner="threads").is_completed()
    assert len(ends) == 1
    assert len(rows(tmp_path / "out.jsonl")) == provider.requests == 12


@pytest.mark.whole
def test_second_run_makes_no_call(run: Any, provider: OpenAIServer, tmp_path: Path) -> None:
    run()
    state = run()
    assert provider.requests == 12
    assert "12 of 12 answered, 12 reused" in state.message
    assert len(rows(tmp_path / "out.jsonl")) == 12


@pytest.mark.whole
def test_one_failed_item_does_not_fail_the_run(run: Any, provider: OpenAIServer, tmp_path: Path) -> None:
    """The run completes below the threshold; the failure is the first row of the table and in the failures file."""
    provider.rule = lambda call: OpenAIServer.too_long() if "document 7" in call.prompt else None
    state = run()
    assert state.is_completed()
    assert "11 of 12 answered, 1 failed (1 invalid_request)" in state.message
    (failure,) = rows(tmp_path / "out.failures.jsonl")
    assert (failure["id"], failure["error_category"], failure["text"]) == ("d7", "invalid_request", "document 7")
    table = json.loads(artifacts(state)["batch-llm-trial-results"]["data"])
    assert (table[0]["item"], table[0]["status"]) == ("d7", "invalid_request")
    assert eventually(lambda: [event for event in events(state) if event["event"] == "batch-llm.item.failed"])


def test_too_many_failures_fail_the_run_and_keep_the_answers(run: Any, provider: OpenAIServer, tmp_path: Path) -> None:
    provider.rule = lambda call: OpenAIServer.too_long() if call.prompt.endswith(("7", "8")) else None
    state = run(failure_threshold=0.1)
    assert state.is_failed()
    assert "failure_threshold=0.1" in state.message
    told = eventually(lambda: [event for event in events(state) if event["event"] == "batch-llm.failures.threshold"])
    assert told[0]["payload"]["categories"] == {"invalid_request": 2}
    assert {"failed", "with-failures"} <= {*flow_run_of(state)["tags"]}
    wanted = {"shard", "with-failures", "invalid_request"}
    eventually(lambda: any(wanted <= {*task["tags"]} for task in task_runs(state)))
    assert [row["status"] for row in rows(tmp_path / "out.jsonl")].count("succeeded") == 10


def test_retry_of_a_shard_calls_only_missing_items(run: Any, provider: OpenAIServer) -> None:
    """Three documents fail in an outage; the second attempt calls only these three."""
    down = {"Summarize document 2", "Summarize document 5", "Summarize document 9"}

    def outage(call: Call) -> Reply | None:
        return OpenAIServer.overloaded() if call.prompt in down and provider.prompts[call.prompt] == 1 else OK

    provider.rule = outage
    state = run(shard_retry={"max_attempts": 3, "initial_wait": 0.1, "max_wait": 0.2})
    assert state.is_completed()
    assert state.message.startswith("12 of 12 answered")
    assert {prompt for prompt, count in provider.prompts.items() if count == 2} == down
    assert provider.requests == 15
    names = {"items 1-12: 9 answered, 3 failed (3 server_error)", "items 1-12 (attempt 2): 12 answered"}
    eventually(lambda: {task["name"] for task in task_runs(state)} >= names)
    shards = [task for task in task_runs(state) if task["name"] in names]
    assert [(shard["name"], shard["state_name"]) for shard in shards] == [
        ("items 1-12: 9 answered, 3 failed (3 server_error)", "Unfinished"),
        ("items 1-12 (attempt 2): 12 answered", "Completed"),
    ]


@pytest.mark.whole
def test_shard_returns_its_answers_after_the_last_retry(run: Any, provider: OpenAIServer, tmp_path: Path) -> None:
    provider.rule = lambda call: OpenAIServer.overloaded() if call.prompt.endswith(" 3") else None
    state = run(shard_retry={"max_attempts": 2, "initial_wait": 0.1, "max_wait": 0.1})
    assert state.is_completed()
    assert "11 of 12 answered, 1 failed (1 server_error)" in state.message
    assert provider.requests == 13
    assert len(rows(tmp_path / "out.jsonl")) == 12


def test_a_bad_key_stops_the_run_at_once(
    run: Any, provider: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect does not retry, later shards make no call, and the message has a fix."""
    monkeypatch.setenv("OPENAI_API_KEY", key := "sk-refused-0123456789")
    provider.rule = lambda _: OpenAIServer.error(401, f"Incorrect API key provided: {key}", "invalid_api_key")
    state = run(shard_size=4, shard_retry={"max_attempts": 5, "initial_wait": 0.1, "max_wait": 0.1})
    assert state.is_failed()
    assert "auth" in state.message
    assert "not attempted" in state.message
    assert "finished items are not charged again" in state.message
    assert provider.requests <= 3, "at most one call a worker"
    assert key not in state.message
    assert key not in json.dumps([artifacts(state), events(state), rows(tmp_path / "out.jsonl")])

    provider.rule = None
    monkeypatch.setenv("OPENAI_API_KEY", "sk-accepted-0123456789")
    assert run(shard_size=4).message.startswith("12 of 12 answered")


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"source": "none.csv"}, ["none.csv", "does not exist"]),
        ({"prompt": "{body}"}, ["body", "id, text"]),
        ({"model": "nobody:gpt"}, ["nobody"]),
        ({"shard_size": 0}, ["shard_size", "1"]),
        ({"config": {"max_worker": 3}}, ["max_workers"]),
        ({"output": "out.xlsx"}, ["out.xlsx", ".parquet"]),
        ({"output_schema": {"type": "string"}}, ["output_schema"]),
        ({"failure_threshold": 2}, ["failure_threshold"]),
    ],
)
def test_bad_input_is_one_line_in_the_runs_state(
    run: Any, provider: OpenAIServer, wrong: dict[str, Any], words: list[str]
) -> None:
    state = run(**wrong)
    assert state.is_failed()
    assert "\n" not in state.message
    assert all(word in state.message for word in words), state.message
    assert provider.requests == 0


def test_concurrent_runs_pay_once(run: Any, provider: OpenAIServer, tmp_path: Path) -> None:
    """The second logs the run that it waits for, then reuses every answer; its events agree."""
    provider.latency = 0.3
    with ThreadPoolExecutor() as pool:
        first = pool.submit(copy_context().run, run)
        eventually(lambda: provider.requests)
        second = pool.submit(copy_context().run, lambda: run(output="again.jsonl"))
        states = [first.result(), second.result()]
    assert [state.is_completed() for state in states] == [True, True]
    assert provider.requests == 12
    assert "12 reused" in states[1].message
    assert [row["status"] for row in rows(tmp_path / "again.jsonl")] == ["succeeded"] * 12
    (waited,) = eventually(lambda: [event for event in events(states[1]) if event["event"] == "batch-llm.run.waiting"])
    assert f"run {states[0].state_details.flow_run_id} " in waited["payload"]["waits_for"]
