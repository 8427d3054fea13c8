"""A row that keeps failing delays no other row: neither in the canary, nor while its shard waits for a retry."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from batch_llm.jobs import Progress, read_progress
from batch_llm.jobs.ledger.progress_line import facts
from tests.prefect.conftest import FlowOver, Serve
from tests.support.prefect_server import rows
from tests.support.servers import Call, OpenAIServer, Reply

pytestmark = pytest.mark.prefect

POISON = "row 3"


class Starts:
    """A rule that records when calls start; calls of the poisoned row fail, the first `failures` times."""

    def __init__(self, failures: int = 1000) -> None:
        self.by_row: defaultdict[str, list[float]] = defaultdict(list)
        self._failures = failures

    def __call__(self, call: Call) -> Reply | None:
        starts = self.by_row[call.prompt]
        starts.append(time.monotonic())
        return OpenAIServer.server_error() if call.prompt == POISON and len(starts) <= self._failures else None

    def of(self, rows: range) -> list[float]:
        """Return the starts of the calls of these rows, except the poisoned one, in order."""
        return sorted(at for row in rows if f"row {row}" != POISON for at in self.by_row[f"row {row}"])


@pytest.fixture
def run(flow_over: FlowOver) -> Callable[..., Any]:
    """Run the flow over rows whose prompts are "row 0", "row 1", ..."""

    def over(count: int, **settings: Any) -> Any:
        texts = (f"row {number}" for number in range(count))
        common: dict[str, Any] = {"name": "slow", "model": "openai-chat:gpt-4.1-mini", "prompt": "{text}"}
        return flow_over(texts, **(common | {"limits": {"requests_per_minute": 600_000}} | settings))()

    return over


@contextmanager
def progress_of(home: Path) -> Generator[list[tuple[Progress, str]]]:
    """Collect the progress of the only run, with its line in a terminal."""
    seen: list[tuple[Progress, str]] = []
    over = Event()

    def look() -> None:
        while not over.wait(0.02):
            for plan in (home / ".batch-llm" / "slow").glob("*/plan.json"):
                progress = read_progress(plan.parent)
                seen.append((progress, facts(progress, 10.0)))

    thread = Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_other_shards_run_while_the_canary_waits_for_a_retry(
    run: Any, serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The canary of five rows passes with four answers; its fifth is called again at the end, in a second attempt."""
    starts = Starts(failures=1)
    server = serve(rule=starts, latency=0.1)
    with progress_of(tmp_path) as seen:
        state = run(
            60,
            canary=5,
            failure_threshold=0.2,
            shard_size=30,
            config={"max_workers": 5, "retry": {"max_attempts": 1}},
            shard_retry={"max_attempts": 2, "initial_wait": 3, "jitter": False},
        )
    assert state.message.startswith("60 of 60 answered")
    assert (server.requests, server.max_in_flight) == (61, 5)
    first, again = starts.by_row[POISON]
    others = starts.of(range(5, 60))
    assert others[-1] < again, "all other rows are called before the retry"
    assert again - first > 3

    waiting = [(progress, line, progress.retry) for progress, line in seen if progress.retry]
    assert {(retry.items, retry.shard, retry.category) for _, _, retry in waiting} == {(1, 1, "server_error")}
    assert "1 item left after server_error; shard 1 retries in 3 s" in waiting[0][1]
    assert max(progress.done for progress, _, _ in waiting) == 59
    assert not any(progress.publishing for progress, _, _ in waiting)
    assert any(progress.publishing for progress, _ in seen)
    assert seen[-1][0].retry is None
    assert any(
        "Shard 1: 1 of 5 items are unfinished" in line and line.endswith("(attempt 2 of 2); other shards continue")
        for line in caplog.messages
    )


def test_other_shards_start_while_the_canary_retries_a_call(run: Any, serve: Serve) -> None:
    """Within the engine's backoff of 2 s, the other rows are called with the workers that the canary does not need."""
    starts = Starts(failures=1)
    server = serve(rule=starts, latency=0.1)
    config = {"max_workers": 5, "retry": {"max_attempts": 2, "initial_wait": 2, "jitter": False}}
    state = run(60, canary=5, failure_threshold=0.2, config=config)
    assert state.message.startswith("60 of 60 answered")
    assert (server.requests, server.max_in_flight) == (61, 5)
    _, again = starts.by_row[POISON]
    assert starts.of(range(5, 60))[0] < again - 0.5


def test_canary_with_too_many_failures_is_retried_alone(run: Any, serve: Serve) -> None:
    """With a threshold of 0, one missing answer decides, so no other row is called before it is there."""
    starts = Starts(failures=1)
    serve(rule=starts)
    state = run(
        60,
        canary=5,
        failure_threshold=0,
        config={"max_workers": 5, "retry": {"max_attempts": 1}},
        shard_retry={"max_attempts": 2, "initial_wait": 0.5, "jitter": False},
    )
    assert state.message.startswith("60 of 60 answered")
    assert starts.of(range(5, 60))[0] > starts.by_row[POISON][1]


def test_a_stop_ends_the_wait_for_a_retry(run: Any, serve: Serve, tmp_path: Path) -> None:
    """A budget that is used up ends the run at once, although a shard waits a minute for its retry."""
    serve(rule=Starts())
    began = time.monotonic()
    state = run(
        60,
        canary=0,
        shard_size=20,
        budget_tokens=150,
        config={"max_workers": 1, "retry": {"max_attempts": 1}},
        shard_retry={"max_attempts": 2, "initial_wait": 60, "jitter": False},
    )
    assert state.name == "BudgetReached"
    assert time.monotonic() - began < 30
    assert len(rows(tmp_path / "out.jsonl")) == 60


@pytest.mark.whole
def test_a_row_that_always_fails_delays_the_others_by_less_than_a_fifth(run: Any, serve: Serve) -> None:
    """Of 400 rows of 0.3 s, with 20 workers and the default canary and retries, one row of the canary is poisoned."""
    settings: dict[str, Any] = {"config": {"max_workers": 20}, "shard_retry": {"max_attempts": 2, "initial_wait": 10}}
    took: list[float] = []
    for number, failures in enumerate((0, 1000, 0, 1000)):
        starts = Starts(failures)
        server = serve(rule=starts, latency=0.3)
        state = run(400, **settings, name=f"run-{number}")
        assert state.is_completed()
        assert server.max_in_flight == 20
        canary, others = starts.of(range(20)), starts.of(range(20, 400))
        assert others[0] - (canary[-1] + server.latency) < 1
        took.append(others[-1] + server.latency - canary[0])
    assert min(took[1::2]) < 1.2 * min(took[::2]), took
