"""Prometheus metrics of a running run: sums over its shards, on a port and in a file."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from batch_llm.jobs.ledger.shard_progress import ShardProgress
from batch_llm.jobs.storage.json_files import to_json, write_whole
from batch_llm.prefect.telemetry.metrics import FILE, PORT, Metrics
from tests.support.jobs import job


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a running run with two shards."""
    monkeypatch.setenv("BATCH_LLM_HOME", str(tmp_path))
    write_whole(tmp_path / "plan.json", to_json({"total": 20, "reused": 5, "shards": [1, 2], "planned_at": 1.0}))
    first = ShardProgress(items=10, succeeded=4, failed=1, input_tokens=40, cost_usd=0.5, categories={"timeout": 1})
    first.write(tmp_path, 0)
    ShardProgress(items=5, succeeded=3, input_tokens=30, output_tokens=7, cost_usd=0.25, limit=2.5).write(tmp_path, 1)
    return tmp_path


def parsed(text: str) -> dict[tuple[str, str], float]:
    """Return values by metric and label; each has the job's name."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("name") == "nightly"
            found[sample.name, "".join(labels.values())] = sample.value
    return found


def test_a_port_serves_the_sum_of_the_shards(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv(PORT, str(port))
    with Metrics.exported(job(name="nightly"), str(folder)):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
            found = parsed(reply.read().decode())
        with socket.create_connection(("127.0.0.1", port)):
            pass
    assert found["batch_llm_items_total", "succeeded"] == 7
    assert found["batch_llm_items_total", "reused"] == 5
    assert found["batch_llm_errors_total", "timeout"] == 1
    assert (found["batch_llm_tokens_total", "input"], found["batch_llm_tokens_total", "output"]) == (70, 7)
    assert found["batch_llm_cost_usd_total", ""] == 0.75
    assert found["batch_llm_limit_per_second", ""] == 2.5
    assert found["batch_llm_run_items", ""] == 20
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_file_is_rewritten_while_the_run_is_running(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FILE, "collected/{name}.prom")
    file = folder / "collected" / "nightly.prom"
    with Metrics.exported(job(name="nightly"), str(folder)) as metrics:
        metrics.write()
        assert parsed(file.read_text())["batch_llm_items_total", "succeeded"] == 7
        ShardProgress(items=5, succeeded=5, cost_usd=None).write(folder, 1)
    found = parsed(file.read_text())
    assert found["batch_llm_items_total", "succeeded"] == 9
    assert ("batch_llm_cost_usd_total", "") not in found, "unpriced is not 0"


@pytest.mark.parametrize("given", ["many", "127.0.0.1:99999"])
def test_metrics_that_cannot_be_published_cause_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, given: str
) -> None:
    monkeypatch.setenv(PORT, given)
    with Metrics.exported(job(name="nightly"), str(folder)):
        pass
    assert "No metrics for Prometheus" in caplog.text
