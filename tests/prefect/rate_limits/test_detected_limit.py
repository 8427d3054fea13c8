"""A run finds an unknown limit and uses it, from its first call to its last."""

from __future__ import annotations

from typing import Any

import pytest

from tests.benchmarks.limited import LimitedServer
from tests.prefect.conftest import FlowOver

ROWS, A_SECOND, BURST_SECONDS = 4000, 50.0, 0.5


@pytest.mark.whole
@pytest.mark.prefect
def test_nine_tenths_of_an_unknown_limit_are_used(flow_over: FlowOver, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 200 workers, a canary and several shards; the provider accepts 50 calls per second and bursts of 25."""
    with LimitedServer(requests_per_second=A_SECOND, burst_seconds=BURST_SECONDS, latency=0.2) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "test-key-that-is-no-secret")
        run: Any = flow_over(
            (f"row {number}" for number in range(ROWS)),
            name="detected",
            model="openai-chat:gpt-4.1-mini",
            prompt="{text}",
            config={"max_workers": 200},
        )
        state = run()
        stats = server.stats()
    assert state.message.startswith(f"{ROWS:,} of {ROWS:,} answered")
    accepted, refused = stats["accepted_at"], stats["refused_at"]
    use = ROWS / (A_SECOND * (accepted[-1] - accepted[0] + BURST_SECONDS))
    assert use >= 0.9
    assert len(refused) < 0.03 * ROWS
