"""Progress of a run, read from the files of its shards."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from batch_llm.jobs import ProgressReader, read_progress, record_publishing, record_retry
from batch_llm.jobs.ledger.progress import Retry
from batch_llm.jobs.ledger.shard_progress import ShardProgress
from tests.support.selection import examples

_COUNT = st.integers(0, 1_000)
_SHARD = st.builds(
    ShardProgress,
    items=_COUNT,
    succeeded=_COUNT,
    failed=_COUNT,
    input_tokens=_COUNT,
    output_tokens=_COUNT,
    cost_usd=st.none() | _COUNT.map(float),
    categories=st.dictionaries(st.sampled_from(["timeout", "auth"]), st.integers(1, 9)),
    limit=st.none() | _COUNT.map(float),
    rate_limits=_COUNT,
    paused_for=_COUNT.map(float),
    finished=st.just(value=True),
)


@examples(25)
@given(st.lists(_SHARD, max_size=6), st.sets(st.integers(0, 5)))
def test_completed_shards_are_counted_but_not_read_again(shards: list[ShardProgress], settled: set[int]) -> None:
    """Reading progress costs as much as the open shards, however many are completed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "progress").mkdir()
        plan = {"total": 9_000, "broken": 1, "reused": 2, "planned_at": 1.0, "shards": [0] * len(shards)}
        (folder / "plan.json").write_text(json.dumps(plan))
        for number, shard in enumerate(shards):
            replace(shard).write(folder, number)
        expected = read_progress(folder)
        reader = ProgressReader(folder)
        for number in settled:
            reader.set_finished(number)
            (folder / "progress" / f"{number:05d}.json").unlink(missing_ok=True)
        assert replace(reader.read(), seconds=0.0) == replace(expected, seconds=0.0)


def test_items_that_are_called_again_are_not_done(tmp_path: Path) -> None:
    """Neither while their shard waits for its next attempt, nor during the attempt; the results end it."""
    (tmp_path / "progress").mkdir()
    (tmp_path / "plan.json").write_text(json.dumps({"total": 30, "shards": [0, 1]}))
    ShardProgress(items=20, succeeded=18, failed=2, finished=True).write(tmp_path, 0)
    ShardProgress(items=10, succeeded=3, failed=1, left=6).write(tmp_path, 1)
    assert (read_progress(tmp_path).done, read_progress(tmp_path).retry) == (24, None)
    record_retry(tmp_path, 0, 2, "timeout", 50.0)
    waiting = read_progress(tmp_path)
    assert (waiting.done, waiting.failed, waiting.shards_done) == (22, 3, 0)
    assert waiting.retry == Retry(items=2, shards=1, shard=1, category="timeout", at=50.0)
    ShardProgress(items=20, succeeded=19, failed=1, left=1).write(tmp_path, 0)
    assert (read_progress(tmp_path).done, read_progress(tmp_path).retry) == (23, None)

    assert not read_progress(tmp_path).publishing
    record_publishing(tmp_path)
    assert read_progress(tmp_path).publishing
    record_publishing(tmp_path, ends=True)
    assert not read_progress(tmp_path).publishing
