"""A ledger that version 3.0.0 wrote, before this layout of the code, is read and reused completely."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import pytest

from batch_llm.jobs import BatchJob, merge, plan, run_shard
from batch_llm.jobs.results.runs import find_runs
from batch_llm.jobs.storage.store import Store
from batch_llm.strategies.base import LLMCallStrategy

EARLIER = Path(__file__).parent / "earlier_version"
RUN = "00000000000000000000000000000001"


class OnlyTheFailedItem(LLMCallStrategy[dict[str, Any]]):
    """Strategy that answers the failed item of the earlier run; another call is an error."""

    calls: ClassVar[list[str]] = []

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[dict[str, Any], dict[str, int]]:
        self.calls.append(prompt)
        return {"title": "T 7", "score": 23}, {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BatchJob:
    """Return the job of the earlier run, in a folder with its ledger."""
    monkeypatch.setenv("BATCH_LLM_HOME", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    shutil.copy(EARLIER / "docs.jsonl", tmp_path)
    run = tmp_path / ".batch-llm" / "letters" / RUN
    for name in ("ledger", "progress"):
        shutil.copytree(EARLIER / name, run / name)
    for name in ("plan.json", "summary.json"):
        text = (EARLIER / name).read_text().replace("/home/user", str(tmp_path))
        (run / name).write_text(text)
    return BatchJob.parse(json.loads((EARLIER / "job.json").read_text()))


def test_answers_of_the_earlier_version_are_not_paid_again(job: BatchJob, tmp_path: Path) -> None:
    made = plan(job, "f" * 32)
    assert (made.total, made.answered, made.reused, made.retried, made.changed) == (12, 0, 11, 1, 0)
    OnlyTheFailedItem.calls.clear()
    for shard in made.shards:
        asyncio.run(run_shard(job, made.folder, shard, strategy=OnlyTheFailedItem))
    totals = merge(job, made)
    assert OnlyTheFailedItem.calls == ["Sum up: letter number 7"]
    assert (totals.succeeded, totals.failed, totals.reused) == (12, 0, 11)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["id"], row["title"], row["score"]) for row in rows] == [
        (f"d{number}", f"T {number}", len(f"Sum up: letter number {number}")) for number in range(1, 13)
    ]
    assert {row["input_tokens"] for row in rows} == {100}
    assert {row["cost_usd"] for row in rows if row["id"] != "d7"} == {0.00006}


@pytest.mark.usefixtures("job")
def test_the_earlier_run_is_listed(tmp_path: Path) -> None:
    (run,) = find_runs(Store(str(tmp_path / ".batch-llm")))
    assert (run.name, run.id) == ("letters", RUN)
    assert run.plan["total"] == 12
