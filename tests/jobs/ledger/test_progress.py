"""Progress of a run, read from the files of its shards."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from batch_llm.jobs import ProgressReader, read_progress
from batch_llm.jobs.ledger.progress import ShardProgress
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
