"""Fewer file descriptors than workers: fewer calls run at once, and no shard fails."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from batch_llm import ProcessorConfig
from batch_llm.jobs.execution.file_descriptors import room_for_calls, too_few_files
from batch_llm.jobs.ledger.shard_progress import ShardProgress
from tests.support.openai_server import OpenAIServer

SCRIPT = """
import asyncio, json, sys
from batch_llm.jobs import BatchJob, merge, plan, run_shard
job = BatchJob.parse(json.loads(sys.argv[1]))
planned = plan(job, "one")
for shard in planned.shards:
    asyncio.run(run_shard(job, planned.folder, shard))
summary = merge(job, planned)
print(summary.succeeded, *summary.warnings, sep="\\n")
"""


@pytest.mark.whole
def test_workers_are_limited_by_file_descriptors(tmp_path: Path) -> None:
    """The limit cannot be raised here, so fewer calls run at once, and all are answered."""
    (tmp_path / "docs.jsonl").write_text(
        "".join(json.dumps({"id": str(n), "text": f"x{n}"}) + "\n" for n in range(150))
    )
    settings = {
        "source": "docs.jsonl",
        "prompt": "{text}",
        "output": "out.jsonl",
        "model": "openai-chat:m",
        "canary": 0,
    }
    job = json.dumps({**settings, "config": {"max_workers": 150, "retry": {"max_attempts": 1}}})
    with OpenAIServer(latency=0.2) as server:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, job],
            cwd=tmp_path,
            env={**os.environ, "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "some-key-of-mine"},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
            capture_output=True,
            text=True,
            check=True,
        )
        assert 4 <= server.max_in_flight < 64
    succeeded, warning = done.stdout.splitlines()
    assert succeeded == "150"
    assert "calls at once instead of max_workers=150" in warning, "the totals have it too"
    assert "calls at once instead of max_workers=150: this process may open 64 files" in done.stderr
    assert "ulimit -n" in done.stderr


def test_low_limit_that_cannot_be_raised_reduces_the_workers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning has the limit and the fix."""
    limit = len([*Path("/dev/fd").iterdir()]) + 100

    def getrlimit(kind: int) -> tuple[int, int]:
        return limit, limit

    def setrlimit(kind: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", getrlimit)
    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    config = ProcessorConfig(max_workers=150)
    with room_for_calls(config) as lower:
        assert 70 < lower.max_workers < 80, "some descriptors are left for other files"
    warning = (
        f"{lower.max_workers} calls at once instead of max_workers=150: this process may open {limit} files, and each "
        "call takes one. Raise it with `ulimit -n 1150` before the start, or lower max_workers"
    )
    assert [record.getMessage() for record in caplog.records] == [warning]
    assert too_few_files(config) == warning


def test_soft_limit_is_raised_if_allowed() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lower = min(soft, 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lower, hard))
    try:
        with room_for_calls(ProcessorConfig(max_workers=400)) as config:
            assert config.max_workers == 400
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 400
        assert too_few_files(ProcessorConfig(max_workers=400)) == ""
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_concurrent_shards_share_the_file_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    def limit(needed: int) -> int:
        return 200

    monkeypatch.setattr("batch_llm.jobs.execution.file_descriptors._limit", limit)
    with room_for_calls(ProcessorConfig(max_workers=100)) as first:
        assert first.max_workers == 100
        with room_for_calls(ProcessorConfig(max_workers=100)) as second:
            assert second.max_workers < 100
            with room_for_calls(ProcessorConfig(max_workers=100)) as third:
                assert third.max_workers == 1, "a shard continues with at least one worker"
    with room_for_calls(ProcessorConfig(max_workers=100)) as again:
        assert again.max_workers == 100


def test_unwritable_progress_does_not_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "progress").write_text("a file where the folder belongs")
    ShardProgress(items=3).write(tmp_path, 0)
