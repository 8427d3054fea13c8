"""Calls of runs under `batch-llm serve` that are cancelled, stopped, killed and retried."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.prefect_server import eventually, rows
from tests.support.processes import DeployedRun, serving, user_environment
from tests.support.processes import run as command
from tests.support.servers import HANG, OK, Call, GeminiServer, LoopbackServer, OpenAIServer, Reply

pytestmark = pytest.mark.prefect

WORKERS = 2


@pytest.fixture(scope="module")
def openai() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture(scope="module")
def gemini() -> Iterator[GeminiServer]:
    with GeminiServer(least_cache_tokens=10) as server:
        yield server


@pytest.fixture(scope="module")
def user(
    prefect_api: str, openai: OpenAIServer, gemini: GeminiServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Return the variables of the user who serves the presets."""
    keys = {"OPENAI_API_KEY": "test-key-that-is-no-secret", "GOOGLE_API_KEY": "test-key-that-is-no-secret"}
    servers = {"OPENAI_BASE_URL": openai.base_url, "GOOGLE_GEMINI_BASE_URL": gemini.url}
    often = {"PREFECT_RUNNER_POLL_FREQUENCY": "1"}
    return user_environment(tmp_path_factory.mktemp("served"), prefect_api, **keys, **servers, **often)


@pytest.fixture(scope="module", autouse=True)
def served(user: dict[str, str]) -> Iterator[Path]:
    with serving(user, Path(user["PWD"])) as (_, log):
        yield log


@dataclass
class Batch:
    """Job over twelve documents in the folder of a test."""

    folder: Path

    def start(self, **parameters: Any) -> DeployedRun:
        """Start a run of the job, which is the same each time."""
        return DeployedRun(**(self._job() | parameters))

    def _job(self) -> dict[str, Any]:
        documents = self.folder / "docs.csv"
        lines = "".join(f"d{n},document {n} of {self.folder}\n" for n in range(1, 13))
        documents.write_text(f"id,text\n{lines}")
        return {
            "source": str(documents),
            "output": str(self.folder / "out.jsonl"),
            "ledger": str(self.folder / "ledger"),
            "prompt": "{text}",
            "model": "openai-chat:gpt-4.1-mini",
            "config": {"max_workers": WORKERS, "retry": {"max_attempts": 1}},
            "shard_retry": {"max_attempts": 1},
        }

    def start_by_command(self, env: dict[str, str]) -> DeployedRun:
        """Start a run of the job with `prefect deployment run`."""
        line = ("prefect", "deployment", "run", "batch-llm/summarize", "--params", json.dumps(self._job()))
        said = command(*line, env=env, cwd=self.folder)
        (run_id,) = re.findall(r"UUID: (\S+)", said)
        return DeployedRun.known(run_id)

    def asked(self, server: LoopbackServer) -> Counter[str]:
        """Count the calls by document."""
        return Counter({text.split(" of ")[0]: count for text, count in server.prompts.items() if self._ours(text)})

    def statuses(self) -> Counter[str]:
        """Count the statuses of the documents in the output."""
        return Counter(row["status"] for row in rows(self.folder / "out.jsonl"))

    def _ours(self, text: str) -> bool:
        return text.endswith(f" of {self.folder}")


@pytest.fixture
def batch(tmp_path: Path, openai: OpenAIServer, gemini: GeminiServer) -> Iterator[Batch]:
    yield Batch(tmp_path)
    openai.rule = gemini.rule = None
    openai.latency = gemini.latency = 0.0


@pytest.mark.whole
def test_run_cancelled_in_the_ui_writes_its_answers(batch: Batch, gemini: GeminiServer, served: Path) -> None:
    """No further call starts, hanging calls are cancelled, and the cache at the provider is deleted."""
    gemini.rule = lambda call: HANG if call.kind == "generate" and sum(batch.asked(gemini).values()) > 3 else None
    run = batch.start(model="gemini-direct:gemini-2.5-flash", cached_context="What every document shares. " * 9)
    eventually(lambda: sum(batch.asked(gemini).values()) == 5, seconds=60)
    assert gemini.shelf.living()
    run.cancel()
    state = run.end()
    assert (state.type.value, state.name) == ("CANCELLED", "Cancelled")
    assert batch.statuses() == {"succeeded": 3, "not_attempted": 9}
    assert sum(batch.asked(gemini).values()) == 5
    assert not gemini.shelf.living()
    eventually(lambda: "3 of 12 answered, 9 not attempted" in served.read_text())
    assert "stopped by cancellation in the UI" in served.read_text()


@pytest.mark.whole
def test_drained_machine_loses_no_answer(batch: Batch, openai: OpenAIServer) -> None:
    """After SIGTERM without a cancellation, calls in flight complete, the run is Crashed, and Retry calls the rest."""
    openai.latency = 1.0
    run = batch.start()
    eventually(lambda: sum(batch.asked(openai).values()) >= 3, seconds=60)
    run.signal(signal.SIGTERM)
    assert run.end().is_crashed()
    answered = sum(batch.asked(openai).values())
    assert batch.statuses() == {"succeeded": answered, "not_attempted": 12 - answered}
    openai.latency = 0.0
    run.retry()
    eventually(lambda: run.state.is_completed(), seconds=60)
    assert set(batch.asked(openai).values()) == {1}
    assert batch.statuses() == {"succeeded": 12}


@pytest.mark.whole
def test_retries_of_every_kind_call_only_what_failed(batch: Batch, openai: OpenAIServer) -> None:
    """Prefect's retry of the shard, Retry in the UI, and a new run use the same ledger."""

    def outage(call: Call) -> Reply | None:
        patient = {"document 3": 3, "document 7": 2, "document 9": 3}
        document = call.prompt.split(" of ")[0]
        return OpenAIServer.overloaded() if batch.asked(openai)[document] < patient.get(document, 0) else OK

    openai.rule = outage
    again = {"max_attempts": 2, "initial_wait": 0.1, "max_wait": 0.1}
    run = batch.start(shard_retry=again, failure_threshold=0)
    state = run.end()
    assert state.is_failed()
    assert "10 of 12 answered, 2 failed (2 server_error)" in state.message
    assert sum(batch.asked(openai).values()) == 12 + 3
    run.retry()
    eventually(lambda: run.state.is_completed(), seconds=60)
    tries = batch.asked(openai)
    assert {document: count for document, count in tries.items() if count > 1} == {
        "document 3": 3,
        "document 7": 2,
        "document 9": 3,
    }
    assert batch.statuses() == {"succeeded": 12}
    assert "12 reused" in batch.start(shard_retry=again, failure_threshold=0).end().message
    assert batch.asked(openai) == tries


def test_killed_run_continues_with_unanswered_items(batch: Batch, openai: OpenAIServer, user: dict[str, str]) -> None:
    """At most the calls in flight are made twice. The run is started with Prefect's command, as by a user."""
    openai.latency = 0.5
    run = batch.start_by_command(user)
    eventually(lambda: sum(batch.asked(openai).values()) >= 5, seconds=60)
    run.signal(signal.SIGKILL)
    state = run.end()
    assert state.is_crashed()
    openai.latency = 0.0
    run.retry()
    eventually(lambda: run.state.is_completed(), seconds=60)
    calls = batch.asked(openai)
    assert len(calls) == 12
    assert sum(calls.values()) - 12 <= WORKERS
    assert batch.statuses() == {"succeeded": 12}
