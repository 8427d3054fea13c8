"""Cost of a run through each provider's client over HTTP: all billed fields, and missing usage."""

from __future__ import annotations

import asyncio
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from genai_prices import Usage, calc_price

from batch_llm.jobs import BatchJob, BudgetShare, Summary, job_store, merge, plan, run_shard
from batch_llm.jobs.messages import money
from batch_llm.strategies.base import LLMCallStrategy
from tests.support.jobs import job, write_lines
from tests.support.servers import Call, LoopbackServer, Reply

_ANSWER = "an answer of some words"
_ROWS = 3

_MODELS = {
    "chat": "openai-chat:gpt-5-mini",
    "responses": "openai-responses:gpt-5-mini",
    "anthropic": "anthropic:claude-haiku-4-5",
    "google": "google:gemini-2.5-flash",
    "direct": "gemini-direct:gemini-2.5-flash",
}


def _body(flavour: str, usage: Any, **more: Any) -> dict[str, Any]:
    match flavour:
        case "chat":
            choice = {"index": 0, "message": {"role": "assistant", "content": _ANSWER}, "finish_reason": "stop"}
            body: dict[str, Any] = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
            return {**body, "choices": [choice], "usage": usage, **more}
        case "responses":
            part: dict[str, Any] = {"type": "output_text", "text": _ANSWER, "annotations": []}
            message: dict[str, Any] = {
                "id": "m",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [part],
            }
            body = {"id": "r", "object": "response", "created_at": 1, "model": "m", "status": "completed"}
            rest: dict[str, Any] = {"parallel_tool_calls": False, "tool_choice": "auto", "tools": []}
            return {**body, **rest, "output": [message], "usage": usage, **more}
        case "anthropic":
            body = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
            return {**body, "content": [{"type": "text", "text": _ANSWER}], "usage": usage, **more}
        case _:
            content = {"role": "model", "parts": [{"text": _ANSWER}]}
            candidate = {"content": content, "finishReason": "STOP", "index": 0}
            return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", **more}


@pytest.fixture
def documents(home: Path) -> None:
    write_lines(home / "docs.jsonl", *({"id": f"d{n}", "text": f"text {n} " + "word " * 20} for n in range(_ROWS)))


def _run(
    monkeypatch: pytest.MonkeyPatch, made_for: BatchJob, reply: Reply, share: BudgetShare | None = None
) -> Summary:
    def rule(call: Call) -> Reply:
        return reply

    with LoopbackServer(rule=rule) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        for name in ("ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL"):
            monkeypatch.setenv(name, server.url)
        for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY"):
            monkeypatch.setenv(name, "test-key-that-is-no-secret")
        made = plan(made_for, "r")
        for shard in made.shards:
            asyncio.run(run_shard(made_for, made.folder, shard, share=share))
    return merge(made_for, made)


def _job(flavour: str, **more: Any) -> BatchJob:
    fast = {"max_workers": 1, "retry": {"max_attempts": 1}}
    bounds: dict[str, Any] = {"model_settings": {"max_tokens": 1000}} if flavour == "anthropic" else {}
    return job(model=_MODELS[flavour], canary=0, config=fast, **bounds, **more)


_BILLED: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, str], dict[str, Any], dict[str, str]]] = [
    (
        "chat",
        {
            "prompt_tokens": 5000,
            "completion_tokens": 900,
            "total_tokens": 5900,
            "prompt_tokens_details": {"cached_tokens": 2000, "audio_tokens": 500},
            "completion_tokens_details": {"reasoning_tokens": 300, "audio_tokens": 100},
        },
        {"service_tier": "priority"},
        {},
        {
            "input_tokens": 5000,
            "output_tokens": 900,
            "cache_read_tokens": 2000,
            "input_audio_tokens": 500,
            "output_audio_tokens": 100,
            "output_reasoning_tokens": 300,
        },
        {"service_tier": "priority"},
    ),
    (
        "chat",
        {
            "prompt_tokens": 5000,
            "completion_tokens": 600,
            "total_tokens": 5900,
            "completion_tokens_details": {"reasoning_tokens": 300},
        },
        {"service_tier": "flex"},
        {},
        {"input_tokens": 5000, "output_tokens": 900},
        {"service_tier": "flex"},
    ),
    (
        "responses",
        {
            "input_tokens": 7000,
            "output_tokens": 800,
            "total_tokens": 7800,
            "input_tokens_details": {"cached_tokens": 6000},
            "output_tokens_details": {"reasoning_tokens": 700},
        },
        {"service_tier": "flex"},
        {},
        {"input_tokens": 7000, "output_tokens": 800, "cache_read_tokens": 6000},
        {"service_tier": "flex"},
    ),
    (
        "anthropic",
        {
            "input_tokens": 10,
            "cache_creation_input_tokens": 3000,
            "cache_read_input_tokens": 500,
            "output_tokens": 40,
            "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 2000},
        },
        {},
        {},
        {
            "input_tokens": 3510,
            "output_tokens": 40,
            "cache_read_tokens": 500,
            "cache_write_tokens": 3000,
            "cache_write_1h_tokens": 2000,
        },
        {},
    ),
    *(
        (
            flavour,
            {
                "promptTokenCount": 4000,
                "candidatesTokenCount": 100,
                "thoughtsTokenCount": 60,
                "cachedContentTokenCount": 1000,
                "totalTokenCount": 4160,
                "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 3000},
                    {"modality": "AUDIO", "tokenCount": 1000},
                ],
            },
            {},
            {},
            {
                "input_tokens": 4000,
                "output_tokens": 160,
                "cache_read_tokens": 1000,
                "input_audio_tokens": 1000,
                "cache_audio_read_tokens": 0,
            },
            {},
        )
        for flavour in ("google", "direct")
    ),
]


@pytest.mark.sample(1)
@pytest.mark.usefixtures("documents")
@pytest.mark.parametrize(("flavour", "usage", "more", "headers", "units", "context"), _BILLED)
def test_a_run_costs_what_genai_prices_computes_of_each_reply(
    monkeypatch: pytest.MonkeyPatch,
    flavour: str,
    usage: dict[str, Any],
    more: dict[str, Any],
    headers: dict[str, str],
    units: dict[str, Any],
    context: dict[str, str],
) -> None:
    """Including caches, audio, reasoning, and service tiers."""
    summary = _run(monkeypatch, _job(flavour), Reply(200, _body(flavour, usage, **more), headers))
    provider = {"chat": "openai", "responses": "openai", "anthropic": "anthropic"}.get(flavour, "google")
    name = _MODELS[flavour].partition(":")[2]
    one = calc_price(Usage(**units), name, provider_id=provider, price_context=context).total_price
    assert summary.succeeded == _ROWS
    assert summary.cost_usd == pytest.approx(float(one * _ROWS), rel=1e-12)
    assert (summary.total_input_tokens, summary.total_output_tokens) == (
        units["input_tokens"] * _ROWS,
        units["output_tokens"] * _ROWS,
    )
    tier = context.get("service_tier")
    saved = summary.lanes[0]["saved_usd"] if summary.lanes else 0
    less = f": {money(saved)} less than at the standard tier" if saved else ""
    expected = [f"The service tier {tier} answered 3 items, which are priced at it{less}."] if tier else []
    assert (summary.total_estimated_tokens, summary.notes) == (0, expected)


@pytest.mark.usefixtures("documents")
def test_a_tier_without_a_price_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    summary = _run(monkeypatch, _job("chat"), Reply(200, _body("chat", usage, service_tier="scale")))
    plain = calc_price(Usage(input_tokens=1000, output_tokens=100), "gpt-5-mini", provider_id="openai").total_price
    assert summary.cost_usd == float(plain * _ROWS)
    assert summary.notes == [
        "There is no published price for service_tier scale: 3 items are priced without it, by the standard prices."
    ]


_OPENAI = ({"prompt_tokens": -5, "completion_tokens": -5}, {"prompt_tokens": 10**18, "completion_tokens": -1})
_LIKE_RESPONSES = ({"input_tokens": 0, "output_tokens": 0}, {"input_tokens": -1, "output_tokens": 10**18})
_UNUSABLE: list[tuple[str, Any]] = [
    *(("chat", usage) for usage in (None, {}, "n/a", {"prompt_tokens": 0, "completion_tokens": 0}, *_OPENAI)),
    *(("responses", usage) for usage in (None, *_LIKE_RESPONSES)),
    *(("anthropic", usage) for usage in (None, {}, *_LIKE_RESPONSES)),
    *((flavour, usage) for flavour in ("google", "direct") for usage in (None, {"promptTokenCount": -3}, {})),
]


@pytest.mark.sample(1)
@pytest.mark.usefixtures("documents")
@pytest.mark.parametrize(("flavour", "usage"), _UNUSABLE)
def test_invalid_usage_is_estimated_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, flavour: str, usage: Any
) -> None:
    """With every client: the answers are paid for, so they count in cost and tokens."""
    with caplog.at_level(logging.WARNING):
        summary = _run(monkeypatch, _job(flavour, shard_size=1), Reply(200, _body(flavour, usage)))
    assert summary.succeeded == _ROWS
    assert summary.cost_usd
    assert 20 * _ROWS < summary.total_input_tokens < 60 * _ROWS
    assert summary.total_output_tokens == -(-len(_ANSWER) // 4) * _ROWS
    assert summary.total_estimated_tokens == summary.total_input_tokens + summary.total_output_tokens
    assert [record.name for record in caplog.records].count("batch_llm.jobs.execution.missing_usage") == 1
    (note,) = summary.notes
    assert "no usable token usage for 3 items" in note


@pytest.mark.sample(1)
@pytest.mark.usefixtures("documents")
@pytest.mark.parametrize("budget", [BudgetShare(tokens=60), BudgetShare(usd=2e-5)])
def test_estimated_usage_counts_for_a_budget(monkeypatch: pytest.MonkeyPatch, budget: BudgetShare) -> None:
    summary = _run(monkeypatch, _job("chat"), Reply(200, _body("chat", None)), budget)
    assert 0 < summary.succeeded < _ROWS
    assert summary.not_attempted


class _Silent(LLMCallStrategy[str]):
    """Strategy that reports no usage."""

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        return "four", {}


@pytest.mark.usefixtures("documents")
def test_usage_of_an_own_strategy_without_usage_is_estimated() -> None:
    made_for = job(canary=0, prices={"input_mtok": 4, "output_mtok": 8})
    made = plan(made_for, "r", strategy="own")
    for shard in made.shards:
        asyncio.run(run_shard(made_for, made.folder, shard, strategy=_Silent))
    summary = merge(made_for, made)
    assert summary.total_output_tokens == _ROWS
    sent = Decimal(summary.total_input_tokens)
    assert summary.cost_usd == pytest.approx(float((sent * 4 + _ROWS * 8) / 1_000_000))
    records = job_store(made_for).names("r/ledger/*.jsonl")
    assert all(b'"estimated_tokens":' in (job_store(made_for).read(name) or b"") for name in records)
