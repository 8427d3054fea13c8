"""Execution of a shard: calls, unfinished items and records."""

from __future__ import annotations

import asyncio
import json
import resource
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai.exceptions import ModelHTTPError

from batch_llm.errors import JobError
from batch_llm.jobs import (
    BatchJob,
    Plan,
    ShardOutcome,
    hold_lease,
    job_store,
    merge,
    plan,
    read_progress,
    request_stop,
    run_folder,
    run_shard,
    run_stats,
)
from batch_llm.strategies.base import LLMCallStrategy
from tests.support.jobs import job, read_lines, write_lines

_FAST = {"max_workers": 2, "retry": {"max_attempts": 1, "initial_wait": 0.01}}


class _Scripted(LLMCallStrategy[str]):
    """Strategy that answers with the prompt in capitals; `errors` has the error of each call by prompt."""

    def __init__(self, errors: dict[str, list[Exception | None]] | None = None) -> None:
        self.errors = errors or {}
        self.calls = Counter[str]()

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        self.calls[prompt] += 1
        planned = self.errors.get(prompt, [])
        error = planned.pop(0) if planned else None
        if error is not None:
            raise error
        return prompt.upper(), {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


def _planned(home: Path, *texts: str, **settings: Any) -> tuple[BatchJob, Plan]:
    write_lines(home / "docs.jsonl", *({"id": text, "text": text} for text in texts))
    made_for = job(**{"config": _FAST, **settings})
    return made_for, plan(made_for, "r", strategy="Scripted")


async def _run(made_for: BatchJob, made: Plan, strategy: LLMCallStrategy[Any], **how: Any) -> ShardOutcome:
    return await run_shard(made_for, made.folder, made.shards[0], strategy=lambda: strategy, **how)


async def test_every_item_is_answered_and_recorded(home: Path) -> None:
    """The outcome counts, the ledger has the answers, the output shows them."""
    made_for, made = _planned(home, "a", "b", "c")
    outcome = await _run(made_for, made, _Scripted())
    assert (outcome.items, outcome.succeeded, outcome.failed, outcome.not_attempted) == (3, 3, 0, 0)
    assert (outcome.input_tokens, outcome.output_tokens, outcome.unfinished) == (9, 6, None)
    assert [row["answer"] for row in read_lines(merge(made_for, made).output)] == ["A", "B", "C"]


async def test_second_attempt_calls_only_unanswered_items(home: Path) -> None:
    """Answered items are not paid for again, and the counts include both attempts."""
    made_for, made = _planned(home, "a", "b", "c")
    strategy = _Scripted({"b": [ConnectionError("down")]})
    first = await _run(made_for, made, strategy)
    assert (first.succeeded, first.failed) == (2, 1)
    assert first.unfinished is not None
    assert (first.unfinished.is_retryable, first.unfinished.category) == (True, "connection")
    assert first.unfinished_text == "1 of 3 items are unfinished, 1 due to connection: ConnectionError: down"
    second = await _run(made_for, made, strategy)
    assert strategy.calls == {"a": 1, "b": 2, "c": 1}
    assert (second.succeeded, second.failed, second.categories, second.unfinished) == (3, 0, {}, None)


@pytest.mark.sample(1)
@pytest.mark.parametrize("error", [TypeError("a bug"), json.JSONDecodeError("no JSON", "x", 0)])
async def test_permanent_failure_leaves_nothing_unfinished(home: Path, error: Exception) -> None:
    """Another attempt of the shard does not help against a programming error or an answer of the wrong shape."""
    made_for, made = _planned(home, "a", "b")
    outcome = await _run(made_for, made, _Scripted({"a": [error]}))
    assert (outcome.succeeded, outcome.failed, outcome.unfinished) == (1, 1, None)


async def test_fatal_error_stops_the_shard_and_leaves_items_unfinished(home: Path) -> None:
    """Items that had not started are not attempted; with a valid key they run."""
    texts = [f"t{number}" for number in range(20)]
    made_for, made = _planned(home, *texts, config={**_FAST, "max_workers": 1})
    strategy = _Scripted({"t0": [ModelHTTPError(401, "some-model", "bad key")]})
    outcome = await _run(made_for, made, strategy)
    assert outcome.unfinished is not None
    assert (outcome.unfinished.category, outcome.unfinished.is_retryable) == ("auth", False)
    assert outcome.unfinished_text.startswith("stopped by auth: 401: ")
    assert (outcome.succeeded, outcome.failed, outcome.not_attempted) == (0, 1, 19)
    again = await _run(made_for, made, strategy)
    assert again.succeeded == 20


async def test_row_rejected_like_a_bad_key_does_not_stop_later_runs(home: Path) -> None:
    """The row is called first in every run, and all other rows are answered."""
    refused = ModelHTTPError(403, "some-model", {"message": "You may not do this"})
    for texts in (["t0", "t1"], ["t0", "t1", "t2", "t3"]):
        made_for, made = _planned(home, *texts, config={**_FAST, "max_workers": 1})
        outcome = await _run(made_for, made, _Scripted({"t1": [refused] * 3}))
        assert (outcome.failed, outcome.not_attempted, outcome.unfinished) == (1, 0, None)


async def test_stop_request_ends_a_shard_gracefully(home: Path) -> None:
    """The call in flight ends and counts; no other starts; planning the run again clears the request."""
    made_for, made = _planned(home, "a", "b", "c", config={**_FAST, "max_workers": 1})
    release = asyncio.Event()

    class Waiting(_Scripted):
        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            request_stop(made.folder, "Ctrl-C")
            await release.wait()
            return await super().execute(prompt, attempt, timeout)

    strategy = Waiting()
    running = asyncio.create_task(_run(made_for, made, strategy))
    await asyncio.sleep(0.8)  # the stop file is looked for twice a second
    release.set()
    outcome = await running
    assert (outcome.succeeded, outcome.not_attempted, outcome.stopped, outcome.unfinished) == (1, 2, True, None)
    assert (await _run(made_for, made, strategy)).succeeded == 1
    plan(made_for, "r", strategy="Scripted")
    assert (await _run(made_for, made, _Scripted())).succeeded == 3


async def test_crash_loses_no_recorded_answer(home: Path) -> None:
    """A shard that was interrupted continues with the unanswered items."""
    made_for, made = _planned(home, "a", "b", "c", config={**_FAST, "max_workers": 1})

    class Hanging(_Scripted):
        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            if prompt == "c":
                await asyncio.sleep(3600)
            return await super().execute(prompt, attempt, timeout)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(_run(made_for, made, Hanging()), 0.5)
    strategy = _Scripted()
    outcome = await _run(made_for, made, strategy)
    assert strategy.calls == {"c": 1}
    assert outcome.succeeded == 3


async def test_secrets_are_kept_out_of_errors(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that quotes the key must not put it into our files."""
    monkeypatch.setenv("SOME_API_KEY", "s3cr3t-value-1")
    made_for, made = _planned(home, "a")
    await _run(made_for, made, _Scripted({"a": [TypeError("key s3cr3t-value-1 and Bearer abcdefgh1234")]}))
    row = read_lines(merge(made_for, made).output)[0]
    assert row["error"] == "TypeError: key *** and Bearer ***"


async def test_progress_is_published_while_a_shard_runs(home: Path) -> None:
    """The terminal and the flow read it from the run's folder."""
    made_for, made = _planned(home, "a", "b", "c", shard_size=2)
    assert read_progress(made.folder).total == 3
    await _run(made_for, made, _Scripted({"b": [TypeError("bug")]}))
    progress = read_progress(made.folder)
    assert (progress.done, progress.succeeded, progress.failed, progress.shards_done, progress.shards) == (
        2,
        1,
        1,
        1,
        2,
    )
    assert (progress.categories, progress.input_tokens, progress.cost_usd) == ({"programming": 1}, 3, None)


async def test_cooldown_is_shown_in_progress(home: Path) -> None:
    """The progress contains the end of the cooldown before any result arrives."""
    limits = {"cooldown_seconds": 2, "slow_start_items": 0}
    made_for, made = _planned(home, "a", config={**_FAST, "rate_limit": limits})
    running = asyncio.create_task(_run(made_for, made, _Scripted({"a": [ModelHTTPError(429, "some-model")]})))
    await _until(lambda: read_progress(made.folder).paused_seconds > 0)
    assert 0 < read_progress(made.folder).paused_seconds <= 2
    request_stop(made.folder, "enough")
    outcome = await running
    assert (outcome.stopped, outcome.succeeded) == (True, 0)


async def test_item_with_several_attempts_counts_once(home: Path) -> None:
    """An item counts once, independent of the number of attempts of its shard."""
    made_for, made = _planned(home, "a", "b", "c", config={**_FAST, "retry": {"max_attempts": 2, "initial_wait": 0.01}})
    down = ModelHTTPError(500, "some-model")
    strategy = _Scripted({"a": [down, down, down], "b": [TypeError("bug")]})
    assert (await _run(made_for, made, strategy)).failed == 2
    assert (await _run(made_for, made, strategy)).failed == 1
    summary = merge(made_for, made)
    stats = run_stats(run_folder(made_for, Path(made.folder).name))
    assert (stats.tried_again, summary.total_attempts) == (1, sum(strategy.calls.values()))
    assert [item.item_id for item in stats.slowest if item.attempts > 1] == ["a"], "an item is listed once"


async def test_cooldowns_of_all_attempts_count(home: Path) -> None:
    """A cooldown of the first attempt counts although the shard ran again for another item."""
    limits = {"cooldown_seconds": 0.1, "slow_start_items": 0}
    made_for, made = _planned(home, "a", "b", config={**_FAST, "rate_limit": limits})
    refused, down = ModelHTTPError(429, "some-model"), ModelHTTPError(500, "some-model")
    strategy = _Scripted({"a": [refused], "b": [down]})
    await _run(made_for, made, strategy)
    first = read_progress(made.folder)
    assert first.rate_limits == 1
    await _run(made_for, made, strategy)
    progress = read_progress(made.folder)
    assert (progress.succeeded, progress.rate_limits, progress.paused_for) == (2, 1, first.paused_for)
    assert first.paused_for > 0


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0.05)


async def test_shard_stops_if_another_run_holds_the_lease(home: Path) -> None:
    """A process pool outlives a killed flow; once another run holds the lease, the shard makes no more calls."""
    texts = [f"t{number}" for number in range(100)]
    write_lines(home / "docs.jsonl", *({"id": text, "text": text} for text in texts))
    made_for, store = job(config={**_FAST, "max_workers": 1}), job_store(job())
    with hold_lease(store, "r", waits_for=print, lost=print) as lease:
        made = plan(made_for, "r", strategy="Scripted", lease=lease)

    class Taken(_Scripted):
        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            if self.calls.total() == 3:
                with hold_lease(store, "other", waits_for=print, lost=print):
                    pass
            await asyncio.sleep(0.1)  # the lease is looked at twice a second
            return await super().execute(prompt, attempt, timeout)

    strategy = Taken()
    outcome = await _run(made_for, made, strategy)
    assert 4 <= strategy.calls.total() < 30
    assert outcome.not_attempted == 100 - strategy.calls.total()
    assert outcome.unfinished is None


async def test_unwritten_answers_never_exceed_the_workers(home: Path) -> None:
    """A kill loses at most the answers that the workers are about to write."""
    at_once = {"config": {**_FAST, "max_workers": 4}, "limits": {"requests_per_minute": 1e6}}
    made_for, made = _planned(home, *(f"doc-{number}" for number in range(60)), **at_once)

    class Counting(_Scripted):
        most = 0
        together = asyncio.Barrier(4)  # a busy machine starts calls one by one

        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            answer = await super().execute(prompt, attempt, timeout)
            await self.together.wait()
            written = sum(len(read_lines(path)) for path in (Path(made.folder) / "ledger").glob("*.jsonl"))
            self.most = max(self.most, self.calls.total() - written)
            await asyncio.sleep(0)
            return answer

    strategy = Counting()
    outcome = await _run(made_for, made, strategy)
    assert outcome.succeeded == 60
    assert strategy.most == 4


async def test_a_full_disk_ends_the_shard_at_once(home: Path) -> None:
    """The shard pays for nothing that it cannot record, reports a fix, and continues when there is space."""
    texts = [f"doc-{number}" for number in range(100)]
    made_for, made = _planned(home, *texts)
    strategy = _Scripted()
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, most))
    try:
        with pytest.raises(JobError, match=r"ledger cannot be written to .*: File too large; free disk space"):
            await _run(made_for, made, strategy)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    paid = strategy.calls.total()
    assert 2 <= paid < 20
    outcome = await _run(made_for, made, strategy)
    assert outcome.succeeded == 100
    assert strategy.calls.total() <= 100 + 2 * 2  # those whose line did not fit, and those in flight


async def test_pydantic_models_in_answers_become_objects(home: Path) -> None:
    """A custom strategy may return pydantic models."""

    class Title(BaseModel):
        title: str

    class Titles(LLMCallStrategy[Title]):
        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[Title, dict[str, int]]:
            return Title(title=prompt), {}

    made_for, made = _planned(home, "a", output_schema={"type": "object", "properties": {"title": {"type": "string"}}})
    await _run(made_for, made, Titles())
    assert [row["title"] for row in read_lines(merge(made_for, made).output)] == ["a"]


async def test_run_waits_for_the_reset_of_a_daily_limit(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With daily_limit="wait" the item is answered after the reset, and the log says how long the run sleeps."""
    made_for, made = _planned(home, "a", daily_limit="wait")
    strategy = _Scripted({"a": [_daily_limit("0.1s")]})
    outcome = await _run(made_for, made, strategy)
    assert (outcome.succeeded, strategy.calls["a"], outcome.unfinished) == (1, 2, None)
    assert "daily limit is reached: the run sleeps for 0:00:01 until" in caplog.text


async def test_run_stops_at_a_daily_limit_by_default(home: Path) -> None:
    """By default the run stops, and the message says when the limit is full again."""
    made_for, made = _planned(home, "a")
    strategy = _Scripted({"a": [_daily_limit("40s")]})
    outcome = await _run(made_for, made, strategy)
    assert (outcome.succeeded, strategy.calls["a"]) == (0, 1)
    assert "the limit resets in 40 s: run again then" in outcome.unfinished_text


def _daily_limit(reset: str) -> ModelHTTPError:
    body = {"message": f"Rate limit reached on requests per day (RPD): Limit 5, Used 5. Try again in {reset}."}
    return ModelHTTPError(429, "m", body)
