"""A fatal error in one shard stops all concurrent shards."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch_llm.jobs import BatchJob, plan
from tests.support.prefect_server import rows
from tests.support.servers import Call, OpenAIServer, Reply

pytestmark = pytest.mark.prefect


def test_fatal_error_stops_concurrent_shards(prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first shard finds the quota used up while the second one is running: both stop."""
    from prefect import flow
    from prefect.futures import wait
    from prefect.runtime import flow_run

    from batch_llm.prefect import publish, run_shard
    from batch_llm.prefect.stopping import Stop, read_stop
    from batch_llm.prefect.telemetry.events import RunEvents

    def rule(call: Call) -> Reply | None:
        number = int(call.prompt.split()[-1])
        return (
            OpenAIServer.error(429, "You have no quota left", "insufficient_quota") if number < 4 else Reply(delay=0.5)
        )

    monkeypatch.setenv("BATCH_LLM_HOME", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "test-key-that-is-no-secret")
    (tmp_path / "docs.csv").write_text("id,text\n" + "".join(f"d{n},document {n}\n" for n in range(104)))
    job = BatchJob.parse(
        {
            "name": "fatal",
            "source": "docs.csv",
            "prompt": "{text}",
            "model": "openai-chat:m",
            "output": "out.jsonl",
            "shard_size": 52,
            "config": {"max_workers": 2, "retry": {"max_attempts": 1}},
        }
    )

    @flow
    def two_shards_at_once() -> Stop | None:
        run_id = str(flow_run.id)
        planned = plan(job, run_id)
        events = RunEvents(run_id, job.name)
        wait([run_shard.submit(job, planned.folder, shard, events) for shard in reversed(planned.shards)])  # pyright: ignore[reportUnknownMemberType]  Prefect's overloads
        publish(job, planned)
        return read_stop(planned.folder)

    with OpenAIServer(rule=rule) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
        stop = two_shards_at_once()
        assert provider.requests < 52 + 4
    assert stop is not None
    assert stop.kind == "fatal"
    assert stop.text.startswith("stopped by quota_exhausted: ")
    assert {"failed", "not_attempted"} <= {row["status"] for row in rows(tmp_path / "out.jsonl")}
