"""Both kinds of deployment: a serving process, and a worker in an unrelated folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import CronSchedule

from batch_llm.prefect.deployment import deployments
from tests.support.prefect_server import eventually, rows
from tests.support.processes import DeployedRun, background, run, serving, user_environment
from tests.support.servers import OpenAIServer

pytestmark = pytest.mark.prefect


@pytest.fixture
def provider() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def env(prefect_api: str, provider: OpenAIServer, tmp_path: Path) -> dict[str, str]:
    """Return a user's variables: a key and a folder with documents, without the settings of this process."""
    (tmp_path / "docs.csv").write_text("id,text\n" + "".join(f"d{n},document {n}\n" for n in range(1, 8)))
    keys = {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "test-key-that-is-no-secret"}
    return user_environment(tmp_path, prefect_api, **keys)


def test_deployment_is_removed_from_its_work_pool_when_served(prefect_api: str) -> None:
    """Prefect's own update would keep the work pool, without the flow's location."""
    block: dict[str, Any] = {"name": "moving", "entrypoint": "flows/batch.py:batch"}
    deployments.ensure_work_pool("test-pool")
    pooled = deployments.local_deployment(block)
    pooled.work_pool_name = "test-pool"
    cast("UUID", pooled.apply())
    with get_client(sync_client=True) as client:
        assert client.read_deployment_by_name("batch-llm/moving").work_pool_name == "test-pool"
        cast("UUID", deployments.deployment_to_serve(block).apply())
        found = client.read_deployment_by_name("batch-llm/moving")
    assert found.work_pool_name is None
    assert found.entrypoint == deployments.flow_entrypoint(block)


def test_a_deployment_is_updated_only_if_its_preset_has_changed(prefect_api: str) -> None:
    block: dict[str, Any] = {
        "name": "stable",
        "entrypoint": "flows/batch.py:batch",
        "tags": ["nightly"],
        "parameters": {"source": "docs.csv", "config": {"max_workers": 3}},
        "schedules": [{"cron": "0 2 * * *", "timezone": "UTC", "active": False}],
    }
    first = deployments.ensure_deployment(block)
    with get_client(sync_client=True) as client:
        updated = client.read_deployment(first).updated
        assert deployments.ensure_deployment(block) == first
        assert client.read_deployment(first).updated == updated
        for changed in (
            {"tags": ["weekly"]},
            {"description": "another"},
            {"parameters": {"source": "docs.csv"}},
            {"schedules": [{"cron": "0 3 * * *", "timezone": "UTC", "active": False}]},
        ):
            block |= changed
            assert deployments.ensure_deployment(block) == first
            found = client.read_deployment(first)
            assert found.updated != updated, changed
            updated = found.updated
    assert (found.tags, found.description, found.parameters) == (["weekly"], "another", {"source": "docs.csv"})
    assert [each.schedule.cron for each in found.schedules if isinstance(each.schedule, CronSchedule)] == ["0 3 * * *"]


def _serve(block: dict[str, Any]) -> None:
    deployments.deployment_to_serve(block).apply()


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("register", [deployments.ensure_deployment, _serve])
def test_no_folder_is_copied_into_the_folder_of_the_serving_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, register: Callable[[dict[str, Any]], object]
) -> None:
    """Also for a deployment that an earlier version registered, from another folder."""
    block: dict[str, Any] = {"name": "moved", "entrypoint": "flows/batch.py:batch"}
    monkeypatch.chdir(tmp_path)
    earlier = deployments.local_deployment(block)
    earlier._path = str(tmp_path)  # pyright: ignore[reportPrivateUsage]
    earlier.apply()
    with get_client(sync_client=True) as client:
        assert client.read_deployment_by_name("batch-llm/moved").path == str(tmp_path)
        register(block)
        assert client.read_deployment_by_name("batch-llm/moved").path == "."
        client.delete_deployment(client.read_deployment_by_name("batch-llm/moved").id)


@pytest.mark.whole
def test_one_process_serves_all_presets(provider: OpenAIServer, env: dict[str, str], tmp_path: Path) -> None:
    """Relative paths start in its folder; when it is stopped, its runs write their answers."""
    with serving({**env, "PREFECT_RUNNER_POLL_FREQUENCY": "1"}, tmp_path) as (process, _):
        wanted: dict[str, Any] = {"source": "docs.csv", "model": "openai-chat:m", "ledger": "l"}
        assert DeployedRun(**wanted, output="served.jsonl").end().is_completed()
        assert provider.requests == 7
        assert [row["id"] for row in rows(tmp_path / "served.jsonl")] == [f"d{n}" for n in range(1, 8)]

        provider.latency = 1.0
        cut = DeployedRun(**wanted, output="cut.jsonl", refresh=True, config={"max_workers": 1})
        eventually(lambda: provider.requests >= 9, seconds=60)
        process.terminate()
        assert cut.end().is_cancelled()
        assert process.wait(30) == 0
    statuses = [row["status"] for row in rows(tmp_path / "cut.jsonl")]
    assert statuses.count("succeeded") == provider.requests - 7 < 7


@pytest.mark.whole
def test_a_run_outlives_its_worker(provider: OpenAIServer, env: dict[str, str], tmp_path: Path) -> None:
    """Killing the worker ends only the process that reads the log lines of its runs."""
    provider.latency = 0.5
    run("batch-llm", "deploy", "summarize", "--pool", "test-pool", env=env, cwd=tmp_path)
    often = {**env, "PREFECT_WORKER_QUERY_SECONDS": "1"}
    with background("prefect", "worker", "start", "--pool", "test-pool", env=often, cwd=tmp_path) as (worker, _):
        config = {"max_workers": 2}
        carried = DeployedRun(source="docs.csv", model="openai-chat:m", output="out.jsonl", ledger="l", config=config)
        eventually(lambda: provider.requests >= 2, seconds=90)
        worker.kill()
        assert carried.end().message.startswith("7 of 7 answered")
    assert len(rows(tmp_path / "out.jsonl")) == provider.requests == 7


BLOCK: dict[str, Any] = {"name": "nightly", "entrypoint": "flows/batch.py:batch", "schedules": [{"cron": "0 2 * * *"}]}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, ""),
        ({"x-note": "ours"}, ""),
        ({"schedules": [{"cron": "99 * * * *"}]}, "schedule {'cron': '99 * * * *'} is not valid: Invalid cron string"),
        ({"schedules": ["0 2 * * *"]}, "schedule '0 2 * * *' is not valid"),
        ({"schedule": {"cron": "0 2 * * *"}}, "schedule is not a key of a deployment: did you mean schedules?"),
        ({"entrypont": "f.py:f"}, "entrypont is not a key of a deployment: did you mean entrypoint?"),
        ({"entrypoint": "flows/bach.py:batch"}, "entrypoint 'flows/bach.py:batch' is not a file and a function"),
    ],
)
def test_what_prefect_would_refuse_is_named_before(change: dict[str, Any], problem: str) -> None:
    found = deployments.problem_of(BLOCK | change)
    assert found.startswith(problem)
    assert bool(found) is bool(problem)


def test_active_schedules_that_a_preset_no_longer_has_are_found(prefect_api: str) -> None:
    cast("UUID", deployments.local_deployment(BLOCK).apply())
    assert deployments.leftover_schedules(BLOCK) == []
    ((shown, schedule),) = deployments.leftover_schedules({**BLOCK, "schedules": None})
    assert shown == "cron 0 2 * * *"
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("batch-llm/nightly")
        client.delete_deployment_schedule(deployment.id, schedule)
    assert deployments.leftover_schedules({**BLOCK, "schedules": None}) == []
    assert deployments.leftover_schedules({**BLOCK, "name": "never-deployed"}) == []
