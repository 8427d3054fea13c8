"""The end of a run's log in the UI: one sentence, without a traceback, unless there is a bug."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest

from batch_llm.cli.actions.flow_process import FlowProcess
from tests.support.prefect_server import eventually
from tests.support.servers import Call, Reply

pytestmark = pytest.mark.prefect


@pytest.fixture
def log_of(prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the flow as Prefect's engine does in a process of its own; return the log of the run in the UI."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
    from prefect.engine import handle_engine_signals
    from prefect.flow_engine import run_flow
    from prefect.logging.loggers import flow_run_logger

    from tests.support.flow_file import load_flow

    monkeypatch.setenv("BATCH_LLM_HOME", str(tmp_path))
    (tmp_path / "docs.csv").write_text("id,text\n" + "".join(f"d{n},document {n}\n" for n in range(1, 5)))

    def run(**settings: Any) -> list[tuple[int, str]]:
        job: dict[str, Any] = {
            "name": "trial",
            "source": "docs.csv",
            "output": "out.jsonl",
            "prompt": "Summarize {text}",
            "model": "openai-chat:gpt-4.1-mini",
            "config": {"max_workers": 1, "retry": {"max_attempts": 1}},
            "shard_retry": {"max_attempts": 1},
        }
        flow = load_flow()
        with get_client(sync_client=True) as client:
            flow_run = client.create_flow_run(flow, parameters=job | settings)
            with pytest.raises(SystemExit), handle_engine_signals(flow_run.id):
                run_flow(flow, flow_run=flow_run, error_logger=cast("Any", flow_run_logger(flow_run)))
            wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run.id]))

            def lines() -> list[tuple[int, str]]:
                found = sorted(client.read_logs(wanted, limit=200), key=lambda line: line.timestamp)
                return [(line.level, line.message) for line in found]

            eventually(lambda: any(message.startswith("Finished in state") for _, message in lines()[-2:]))
            eventually(lambda: not lines()[-1][1].startswith("Finished in state"))
            return lines()

    return run


def refused(status: int, message: str) -> Callable[[Call], Reply]:
    return lambda call: Reply(status, {"error": {"message": message}})


def has_no_inner_text(log: list[tuple[int, str]]) -> bool:
    """Also whether no line repeats the last one."""
    repeated = sum(log[-1][1] in message for _, message in log) > 1
    inner = ("Traceback", "result=", "NoneType: None")
    return not repeated and not any(text in message for _, message in log for text in inner)


def test_a_failed_run_ends_its_log_with_its_sentence(log_of: Any, serve: Any) -> None:
    serve().rule = refused(400, "bad request")
    log = log_of(canary=0)
    assert has_no_inner_text(log)
    assert log[-1][0] == 40
    assert log[-1][1].startswith("0 of 4 answered, 4 failed (4 invalid_request)")
    assert log[-1][1].endswith("more than failure_threshold=0.1 allows")
    assert "Finished in state Failed" in [message for _, message in log]


@pytest.mark.whole
def test_a_run_over_its_budget_ends_its_log_with_its_sentence(log_of: Any, serve: Any) -> None:
    serve()
    log = log_of(budget_tokens=1)
    assert has_no_inner_text(log)
    assert log[-1][0] == 30
    assert "budget_tokens of 1 tokens is used up" in log[-1][1]


@pytest.mark.whole
def test_an_invalid_job_ends_its_log_with_what_to_change(log_of: Any) -> None:
    log = log_of(prompt="Summarize {body}")
    assert has_no_inner_text(log)
    assert log[-1][0] == 40
    assert "column 'body'" in log[-1][1]


@pytest.mark.whole
def test_a_retry_of_a_shard_is_one_sentence(log_of: Any, serve: Any) -> None:
    serve().rule = refused(500, "injected")
    log = log_of(canary=0, shard_retry={"max_attempts": 2, "initial_wait": 0.1, "jitter": False})
    assert has_no_inner_text(log)
    why = "4 of 4 items are unfinished, 4 due to server_error: 500: injected"
    retried = "It is retried in 0 s (attempt 2 of 2); other shards continue"
    assert f"Shard 1: {why}. {retried}" in [message for _, message in log]
    assert sum(why in message for _, message in log) == 1


@pytest.mark.whole
def test_a_run_that_sigterm_ends_has_its_sentence_in_its_log(
    prefect_api: str, serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect's engine ends the process by the signal, without sending the last records."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

    monkeypatch.setenv("BATCH_LLM_HOME", str(tmp_path))
    (tmp_path / "docs.csv").write_text("id,text\n" + "".join(f"d{n},document {n}\n" for n in range(1, 41)))
    provider = serve(latency=0.3)
    block: dict[str, Any] = {"name": "ended", "entrypoint": "flows/batch.py:batch"}
    job: dict[str, Any] = {"name": "ended", "source": "docs.csv", "output": "out.jsonl", "prompt": "{text}"}
    job |= {"model": "openai-chat:gpt-4.1-mini", "config": {"max_workers": 1}, "canary": 0}
    with FlowProcess.started() as process:
        process.request("use_server", url=prefect_api)
        run_id = UUID(process.request("create_run", block=block, parameters=job)["id"])
        eventually(lambda: provider.requests >= 3, seconds=60)
        process.end()
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id]))
    with get_client(sync_client=True) as client:
        eventually(lambda: any("stopped by SIGTERM" in line.message for line in client.read_logs(wanted, limit=200)))
