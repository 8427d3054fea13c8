"""The automations of `deployments/automations.yaml` are installed and triggered on a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from pydantic import SecretStr

from batch_llm.cli.actions.flow_process import FlowProcess
from batch_llm.errors import BatchLLMError
from batch_llm.prefect.deployment import automations, deployments
from tests.support.flow_file import load_flow
from tests.support.prefect_server import eventually
from tests.support.servers import LoopbackServer, OpenAIServer

pytestmark = pytest.mark.prefect

ONCE = {"max_attempts": 1}

SHORT = 10
"""The shortest that Prefect waits for an event that does not come."""


@pytest.fixture
def client(prefect_api: str) -> Iterator[SyncPrefectClient]:
    """Return a client, and delete all automations after the test."""
    with get_client(sync_client=True) as client:
        yield client
        for automation in client.read_automations():
            client.delete_automation(automation.id)


@pytest.fixture
def hook() -> Iterator[LoopbackServer]:
    """Start a server that receives notifications."""
    with LoopbackServer() as server:
        says = {"subject": "{{subject}}", "body": "{{body}}"}
        block = CustomWebhookNotificationBlock(
            name="test", url=f"{server.url}/told", json_data=says, headers=None, cookies=None
        )
        cast("UUID", block.save("told", overwrite=True))
        yield server


@pytest.fixture
def deployment(client: SyncPrefectClient) -> UUID:
    """Create a deployment for one test, because tests count its runs and have any order."""
    return cast("UUID", deployments.local_deployment(preset()).apply())


def preset() -> automations.Block:
    return {
        "name": f"tried-{uuid4()}",
        "entrypoint": "flows/batch.py:batch",
        "parameters": {"source": "docs.csv", "output": "out.jsonl", "prompt": "{text}", "name": "tried"},
    }


def named(part: str) -> list[automations.Block]:
    """Return the automations of the file whose names contain `part`."""
    (found,) = [block for block in automations.read_automations() if part in block["name"]]
    return [found]


def runs_of(client: SyncPrefectClient, deployment: UUID) -> list[FlowRun]:
    wanted = {"deployments": {"id": {"any_": [str(deployment)]}}, "sort": "EXPECTED_START_TIME_DESC"}
    found = client._client.post("/flow_runs/filter", json=wanted).json()  # pyright: ignore[reportPrivateUsage]  the plainest way
    return [FlowRun.model_validate(run) for run in found]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with documents, of which the second is the longest, and set a key for their provider."""
    (tmp_path / "docs.csv").write_text("id,text\na,one\nb,two and some more words\nc,three\n")
    monkeypatch.setenv("BATCH_LLM_HOME", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "test-key-that-is-no-secret")
    return tmp_path


def run_to_end(deployment: UUID, parameters: dict[str, Any]) -> FlowRun:
    """Run the flow of a deployment in this process, to its end."""
    run = deployments.create_run(deployment, {"model": "openai-chat:m", "config": {"retry": ONCE}, **parameters})
    run_flow(load_flow(), flow_run=run, parameters=run.parameters, return_type="state")
    return run


def test_second_installation_adds_nothing_and_keeps_automations_off(client: SyncPrefectClient) -> None:
    blocks = automations.read_automations()
    installed = automations.install(blocks)
    assert [block["name"] for block in blocks if block["name"] not in installed] == ["batch-llm: tell of a failed run"]
    (first,) = client.read_automations_by_name(installed[0])
    client.pause_automation(first.id)
    automations.install(blocks)
    known = {automation.name: automation for automation in client.read_automations()}
    assert sorted(known) == sorted(installed)
    assert len(client.read_automations()) == len(installed)
    assert [automation.enabled for name, automation in known.items() if name != first.name] == [True, True]
    assert not known[first.name].enabled


def test_missing_or_unsuitable_block_is_reported_in_one_line(client: SyncPrefectClient) -> None:
    from prefect.blocks.system import Secret

    with pytest.raises(BatchLLMError, match="block 'slack-webhook/nobody' does not exist: create one"):
        automations.install(automations.read_automations(), "slack-webhook/nobody")
    cast("UUID", Secret(value=SecretStr("quiet")).save("mute", overwrite=True))
    with pytest.raises(BatchLLMError, match="block 'secret/mute' cannot send notifications"):
        automations.install(automations.read_automations(), "secret/mute")


def test_failed_run_causes_a_notification_and_a_new_run_an_hour_later(
    client: SyncPrefectClient, hook: LoopbackServer, deployment: UUID, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run has the same parameters with only_failed; its own failure starts no third run."""
    automations.install([*named("tell of"), *named("outage")], "custom-webhook/told")
    own: dict[str, Any] = {"instructions": "<b>", "failure_threshold": 0, "shard_retry": ONCE}
    with OpenAIServer(rule=lambda call: OpenAIServer.overloaded() if "two" in call.prompt else None) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
        failed = run_to_end(deployment, own)
        assert state_of(client, failed).is_failed()
        (again,) = eventually(lambda: [run for run in runs_of(client, deployment) if run.id != failed.id])
        assert again.parameters == {**failed.parameters, "only_failed": True, "refresh": False}
        assert again.next_scheduled_start_time
        wait = again.next_scheduled_start_time.timestamp() - time.time()
        assert 58 * 60 < wait <= 60 * 60

        run_to_end(deployment, again.parameters)
    eventually(lambda: len(hook.calls) == 2)
    told = [call.body for call in hook.calls]
    assert told[0]["subject"] == f"{failed.name}: Failed"
    assert told[0]["body"].startswith("2 of 3 answered, 1 failed (1 server_error)")
    assert len(runs_of(client, deployment)) == 3


def state_of(client: SyncPrefectClient, run: FlowRun) -> State[Any]:
    state = client.read_flow_run(run.id).state
    assert state is not None
    return state


@pytest.mark.whole
def test_schedule_is_paused_when_the_budget_is_used_up(
    client: SyncPrefectClient, deployment: UUID, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triggered by the event of a run that used up its budget, which contains the deployment."""
    automations.install(named("budget"))
    with OpenAIServer() as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
        run = run_to_end(deployment, {"budget_tokens": 5, "config": {"max_workers": 1}})
    assert state_of(client, run).name == "BudgetReached"
    assert 0 < provider.requests < 3
    assert eventually(lambda: client.read_deployment(deployment).paused)
    wanted = {
        "filter": {"event": {"name": ["batch-llm.budget.exhausted"]}, "related": {"id": [f"prefect.flow-run.{run.id}"]}}
    }
    post = client._client.post  # pyright: ignore[reportPrivateUsage]  the plainest way
    (event,) = eventually(lambda: post("/events/filter", json=wanted).json()["events"])
    assert event["resource"]["prefect.resource.id"] == f"batch-llm.run.{run.id}"
    assert f"prefect.deployment.{deployment}" in [each["prefect.resource.id"] for each in event["related"]]


@pytest.mark.whole
def test_a_run_whose_process_died_is_marked_as_crashed(
    client: SyncPrefectClient, prefect_api: str, deployment: UUID, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triggered by missing heartbeats of Prefect; a run that has ended by then is not changed."""
    (block,) = named("heartbeat")  # with a shorter patience than the file's
    automations.install([{**block, "trigger": {**block["trigger"], "within": SHORT}}])
    parameters = {"model": "openai-chat:m", "output": "dead.jsonl", "name": "dead"}
    with OpenAIServer(latency=60) as hanging:
        monkeypatch.setenv("OPENAI_BASE_URL", hanging.base_url)
        process = FlowProcess()
        try:
            process.request("use_server", url=prefect_api)
            created = process.request("create_run", block=preset(), parameters=parameters)
            dead = client.read_flow_run(UUID(created["id"]))
            with OpenAIServer() as provider, temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 30}):
                monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
                ended = run_to_end(deployment, {})
            eventually(lambda: hanging.requests, seconds=60)
        finally:
            process.kill()
            process.close()
    eventually(lambda: state_of(client, dead).is_crashed(), seconds=60)
    assert str(state_of(client, dead).message).startswith("No heartbeat for ten minutes")
    assert state_of(client, ended).is_completed()
