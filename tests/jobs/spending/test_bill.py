"""The reported cost of a run equals the usage that the provider counted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from batch_llm.jobs import BatchJob, Summary, merge, plan, run_shard
from tests.support.jobs import job, read_lines, write_lines
from tests.support.servers import Call, GeminiServer, OpenAIServer, Reply

_SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
_FAST = {"max_workers": 4, "retry": {"max_attempts": 2, "initial_wait": 0.01}}
_PRICES = {"input_mtok": 900.0, "output_mtok": 3100.0, "cached_input_mtok": 90.0}


def _answered(made_for: BatchJob) -> Summary:
    made = plan(made_for, "r")
    for shard in made.shards:
        asyncio.run(run_shard(made_for, made.folder, shard))
    return merge(made_for, made)


def _documents(home: Path, count: int) -> None:
    rows = [{"id": f"d{number}", "text": " ".join(["word"] * (3 + 7 * number % 40))} for number in range(count)]
    write_lines(home / "docs.jsonl", *rows)


def _bill(read: int, cached: int, written: int) -> float:
    per = _PRICES
    spent = (read - cached) * per["input_mtok"] + cached * per["cached_input_mtok"] + written * per["output_mtok"]
    return spent / 1e6


def test_cost_equals_the_usage_that_openai_counted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With cached tokens, rate limits, server errors, blocked answers, and answers that are requested again."""
    _documents(home, 60)
    cached = 0

    def rule(call: Call) -> Reply | None:
        nonlocal cached
        kind = server.requests % 10
        if kind == 3:
            cached += 2
            return OpenAIServer.text('{"title": "ok"}', cached=2)
        bad = {
            5: OpenAIServer.broken_json(),
            6: OpenAIServer.server_error(),
            7: OpenAIServer.content_filter(),
            8: OpenAIServer.text('{"titel": 1}'),
        }
        return bad.get(kind) or (OpenAIServer.rate_limit(0.01) if server.requests == 10 else None)

    with OpenAIServer(rule=rule) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "test-key-that-is-no-secret")
        made_for = job(model="openai-chat:my-model", prices=_PRICES, config=_FAST, output_schema=_SCHEMA, shard_size=25)
        summary = _answered(made_for)
    assert summary.failed > 0
    assert cached > 0
    _agree(summary, _bill(server.input_tokens, cached, server.output_tokens))
    assert (summary.total_input_tokens, summary.total_output_tokens) == (server.input_tokens, server.output_tokens)
    assert (summary.total_cached_input_tokens, summary.priced_by) == (cached, "own prices")


@pytest.mark.sample(1)
@pytest.mark.parametrize("context", [None, "word " * 2000])
def test_cost_equals_the_usage_that_gemini_counted(
    home: Path, monkeypatch: pytest.MonkeyPatch, context: str | None
) -> None:
    """With a cached context and without, thinking, blocked answers and failures."""
    _documents(home, 30)

    def rule(call: Call) -> Reply | None:
        if call.kind != "generate":
            return None
        return {4: server.safety(), 6: GeminiServer.overloaded(), 9: server.text("no JSON")}.get(server.requests % 10)

    with GeminiServer(thoughts=5, rule=rule) as server:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        monkeypatch.setenv("GOOGLE_API_KEY", "test-key-that-is-no-secret")
        settings: dict[str, Any] = {"model": "gemini-direct:my-model", "prices": _PRICES, "config": _FAST}
        summary = _answered(job(**settings, output_schema=_SCHEMA, cached_context=context))
    assert summary.failed > 0
    assert (summary.total_cached_input_tokens > 0) == (context is not None)
    paid = _bill(server.input_tokens, summary.total_cached_input_tokens, server.output_tokens)
    _agree(summary, paid)


def _agree(summary: Summary, paid: float) -> None:
    assert summary.cost_usd == pytest.approx(paid, rel=1e-9)
    items = sum(row["cost_usd"] for row in read_lines(summary.output))
    assert items == pytest.approx(paid, rel=1e-9), "the costs of the items add up to it"
