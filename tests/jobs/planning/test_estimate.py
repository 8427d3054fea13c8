"""Cost estimates before a run: a range for a new job, and close to the bill after some items were called."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob, job_store, merge, plan, run_shard
from batch_llm.jobs.planning.estimate import estimate
from tests.support.jobs import job, run_job, write_lines
from tests.support.servers import Call, OpenAIServer, Reply

_PRICES = {"input_mtok": 1000.0, "output_mtok": 4000.0}
_FIELDS = {"name": {"type": "string"}, "total": {"type": "string"}}
_SCHEMA = {"type": "object", "properties": _FIELDS, "required": list(_FIELDS)}


def _words(draw: random.Random, least: int, most: int) -> str:
    return " ".join("w" * draw.randint(2, 9) for _ in range(draw.randint(least, most)))


def _ticket(draw: random.Random, prompt: str) -> Reply | None:
    """Answer with one word, sometimes with a failure or a rate limit."""
    drawn = draw.random()
    return OpenAIServer.too_long() if drawn < 0.03 else OpenAIServer.text("complaint")


def _document(draw: random.Random, prompt: str) -> Reply | None:
    """Answer with a summary whose length depends on the document."""
    return OpenAIServer.text("word " * max(5, int(len(prompt.split()) * draw.uniform(0.1, 0.3))))


def _record(draw: random.Random, prompt: str) -> Reply | None:
    """Answer with fields of any length, sometimes in a wrong shape first."""
    if draw.random() < 0.15:
        return OpenAIServer.text('{"name": ')
    return OpenAIServer.text(json.dumps({"name": _words(draw, 1, 30), "total": _words(draw, 1, 3)}))


_SETS: dict[str, tuple[int, int, Callable[[random.Random, str], Reply | None], dict[str, Any]]] = {
    "short tickets": (8, 40, _ticket, {"instructions": "Sort these tickets into complaints and praise, please."}),
    "long documents": (200, 3000, _document, {"instructions": "Summarize."}),
    "structured extraction": (30, 200, _record, {"output_schema": _SCHEMA}),
}


def _run(made_for: BatchJob, run: str) -> float:
    made = plan(made_for, run)
    for shard in made.shards:
        asyncio.run(run_shard(made_for, made.folder, shard))
    cost = merge(made_for, made).cost_usd
    assert cost is not None
    return cost


@pytest.mark.whole
@pytest.mark.parametrize("name", _SETS)
def test_after_fifty_items_the_estimate_is_within_15_percent_of_the_bill(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The range that was estimated before them contains the bill, too."""
    least, most, answer, settings = _SETS[name]
    draw = random.Random(name)
    write_lines(home / "docs.jsonl", *({"id": str(number), "text": _words(draw, least, most)} for number in range(400)))

    def rule(call: Call) -> Reply | None:
        return answer(draw, call.prompt)

    with OpenAIServer(rule=rule) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "test-key-that-is-no-secret")
        fast = {"max_workers": 10, "retry": {"max_attempts": 2, "initial_wait": 0.01}}
        common: dict[str, Any] = {"model": "openai-chat:my-model", "prices": _PRICES, "config": fast, **settings}
        guess = estimate(job(**common))
        first = _run(job(**common, limit=50), "first")
        calibrated = estimate(job(**common))
        rest = _run(job(**common), "rest")
    assert calibrated.to_answer == 400 - calibrated.reused
    assert calibrated.cost_usd is not None
    assert guess.cost_usd is not None
    assert calibrated.cost_usd.expected == pytest.approx(rest, rel=0.15)
    assert calibrated.cost_usd.low <= rest <= calibrated.cost_usd.high
    assert guess.is_guess
    assert guess.cost_usd.low <= first + rest <= guess.cost_usd.high
    assert not calibrated.is_guess
    assert calibrated.calibrated_by == "50 items of this source that this job has called before"


def test_estimate_writes_nothing_and_leaves_out_answered_items(home: Path) -> None:
    """With a broken row, answers of an earlier run, and a model without a price."""
    write_lines(home / "docs.jsonl", *({"id": str(number), "text": "x"} for number in range(20)), "broken")
    made_for = job(limits={"requests_per_minute": 6}, model="openai-chat:my-model")
    before = job_store(made_for).names("*/*")
    found = estimate(made_for)
    assert job_store(made_for).names("*/*") == before
    assert (found.items, found.broken, found.to_answer, found.cost_usd, found.seconds) == (21, 1, 20, None, 200.0)
    local = job()
    run_job(local, "one", fail="7")
    again = estimate(local)
    assert (again.items, again.reused, again.to_answer) == (21, 19, 1)


def test_new_documents_are_estimated_from_earlier_runs(home: Path) -> None:
    """In proportion to their length."""
    made_for = job()
    write_lines(home / "docs.jsonl", *({"id": str(number), "text": "x" * 100} for number in range(20)))
    run_job(made_for, "one")
    write_lines(home / "docs.jsonl", *({"id": f"n{number}", "text": "x" * 300} for number in range(20)))
    found = estimate(made_for)
    assert (found.to_answer, found.is_guess) == (20, False)
    assert found.calibrated_by == "20 items of earlier runs of this name with this model"


def test_unreachable_ledger_is_reported_in_one_line(home: Path) -> None:
    """The same line is reported when the job runs."""
    write_lines(home / "docs.jsonl", {"id": "a", "text": "x"})
    with pytest.raises(JobError, match=r"^the job cannot be estimated: .*127\.0\.0\.1"):
        estimate(job(ledger="http://127.0.0.1:9/ledger"))


def test_item_that_several_runs_called_is_estimated_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of refreshes of an item does not raise its estimate, and neither does an outage."""
    write_lines(home / "docs.jsonl", *({"id": str(number), "text": "x" * 50} for number in range(20)))
    monkeypatch.setenv("OPENAI_API_KEY", "test-key-that-is-no-secret")
    settings: dict[str, Any] = {"model": "openai-chat:my-model", "prices": _PRICES, "canary": 0}
    for number in range(4):
        run_job(
            job(**settings, refresh=True), f"run-{number}", tokens=100, seconds=2.0, fail="3" if number == 3 else ""
        )
    found = estimate(job(**settings, refresh=True))
    assert (found.to_answer, found.reused) == (20, 0)
    assert found.output_tokens.expected == pytest.approx(2000)
    assert found.cost_usd is not None
    assert found.cost_usd.expected == pytest.approx(2000 * 4000 / 1e6)


def test_newest_call_of_an_item_is_measured_if_the_clock_was_behind(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of the plan gives the order, and not the time that the machine stated."""
    write_lines(home / "docs.jsonl", *({"id": str(number), "text": "x" * 50} for number in range(20)))
    run_job(job(), "first", tokens=100)
    monkeypatch.setattr("batch_llm.jobs.ledger.records.time.time_ns", lambda: 1_700_000_000 * 10**9)
    run_job(job(refresh=True), "second", tokens=500)
    assert estimate(job(refresh=True)).output_tokens.expected == pytest.approx(20 * 500)


def test_expected_cost_of_a_canary_is_the_cost_of_one_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refreshes do not add up, or a job that costs three times as much would pass."""
    write_lines(home / "docs.jsonl", *({"id": str(number), "text": "x" * 50} for number in range(30)))
    monkeypatch.setenv("OPENAI_API_KEY", "test-key-that-is-no-secret")
    settings: dict[str, Any] = {"model": "openai-chat:my-model", "prices": _PRICES, "canary": 2}
    for number in range(3):
        run_job(job(**settings, refresh=True), f"run-{number}", tokens=100)
    made = plan(job(**settings, prompt="Changed: {text}"), "changed")
    assert made.canary.items == 2
    assert made.canary.cost_usd == pytest.approx(2 * 100 * 4000 / 1e6)
