"""The lane `flex`: half-price calls, with the standard tier when flex refuses or delays a call."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from genai_prices import Usage, calc_price

from batch_llm import LLMCallStrategy
from batch_llm.errors import JobError, TierUnavailable
from batch_llm.jobs import BatchJob, Summary, check, merge, plan, run_shard
from batch_llm.jobs.models.flex import REFUSALS_IN_A_ROW, STANDARD_ONLY_SECONDS, FlexStrategy, check_flex
from batch_llm.jobs.planning.estimate import estimate
from tests.support.jobs import job, write_lines
from tests.support.servers import Call, GeminiServer, LoopbackServer, OpenAIServer, Reply

_ROWS = 6
_FULL = OpenAIServer.error(429, "Resource Unavailable", "resource_unavailable", "resource_unavailable")


@pytest.fixture
def documents(home: Path) -> None:
    write_lines(home / "docs.jsonl", *({"id": f"d{n}", "text": f"text {n}"} for n in range(_ROWS)))


def _is_flex(call: Call) -> bool:
    return call.body.get("service_tier", call.body.get("serviceTier")) == "flex"


def _run(monkeypatch: pytest.MonkeyPatch, server: LoopbackServer, **settings: Any) -> Summary:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
    for name in ("OPENAI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.setenv(name, "test-key-that-is-no-secret")
    engine = {"max_workers": 1, "retry": {"max_attempts": 1}}
    made_for = job(**{"model": "openai-chat:gpt-5-mini", "canary": 0, "config": engine, "lane": "flex", **settings})
    made = plan(made_for, "r")
    for shard in made.shards:
        asyncio.run(run_shard(made_for, made.folder, shard))
    return merge(made_for, made)


def _at(tier: str, server: OpenAIServer) -> Reply:
    def body(call: Call) -> dict[str, Any]:
        reply = server.healthy(call).body
        assert callable(reply) or isinstance(reply, dict)
        return {**(reply(call) if callable(reply) else reply), "service_tier": tier}

    return Reply(body=body)


def _price(tier: str | None, *, sent: int, received: int) -> float:
    context = {"service_tier": tier} if tier else None
    usage = Usage(input_tokens=sent, output_tokens=received)
    return float(calc_price(usage, "gpt-5-mini", provider_id="openai", price_context=context).total_price)


@pytest.mark.usefixtures("documents")
def test_each_row_costs_the_price_of_the_tier_that_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused calls are made again at the standard tier within their attempt."""
    server = OpenAIServer()
    refused = {"text 1", "text 4"}

    def rule(call: Call) -> Reply:
        if not _is_flex(call):
            return _at("default", server)
        return _FULL if call.prompt in refused else _at("flex", server)

    server.rule = rule
    with server:
        summary = _run(monkeypatch, server)
    sent, received = summary.total_input_tokens // _ROWS, summary.total_output_tokens // _ROWS
    half, full = (_price(tier, sent=sent, received=received) for tier in ("flex", None))
    assert (summary.succeeded, summary.failed, summary.total_attempts) == (_ROWS, 0, _ROWS)
    assert half == pytest.approx(full / 2)
    assert summary.cost_usd == pytest.approx(4 * half + 2 * full)
    flex, online = summary.lanes
    assert flex == {
        "lane": "flex",
        "items": 4,
        "cost_usd": pytest.approx(4 * half),
        "saved_usd": pytest.approx(4 * half),
    }
    assert online == {"lane": "online", "items": 2, "cost_usd": pytest.approx(2 * full), "saved_usd": pytest.approx(0)}
    assert server.requests == _ROWS + 2


@pytest.mark.usefixtures("documents")
def test_a_rate_limit_at_flex_is_a_rate_limit_of_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    server = OpenAIServer()
    server.rule = lambda call: _at("flex", server)
    with server:
        server.script(OpenAIServer.rate_limit(retry_after=0))
        summary = _run(monkeypatch, server)
    assert [lane["lane"] for lane in summary.lanes] == ["flex"]
    assert (summary.succeeded, summary.total_attempts) == (_ROWS, _ROWS + 1)


@pytest.mark.usefixtures("documents")
def test_google_without_capacity_answers_at_the_standard_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    server = GeminiServer()
    overloaded = Reply(503, {"error": {"code": 503, "message": "No capacity at flex.", "status": "UNAVAILABLE"}})
    server.rule = lambda call: overloaded if _is_flex(call) else None
    with server:
        summary = _run(monkeypatch, server, model="google:gemini-3.8-flash")
        asked = [_is_flex(call) for call in server.calls]
    assert (summary.succeeded, summary.total_attempts, summary.lanes) == (_ROWS, _ROWS, [])
    assert asked == [True, False] * REFUSALS_IN_A_ROW + [False] * (_ROWS - REFUSALS_IN_A_ROW)


@pytest.mark.usefixtures("documents")
def test_google_flex_costs_as_much_as_its_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    server = GeminiServer()

    def rule(call: Call) -> Reply:
        reply = server.healthy(call)
        return Reply(reply.status, reply.body, {"x-gemini-service-tier": "flex"})

    server.rule = rule
    with server:
        summary = _run(monkeypatch, server, model="google:gemini-3.8-flash")
    usage = Usage(input_tokens=summary.total_input_tokens, output_tokens=summary.total_output_tokens)
    batch = calc_price(
        usage, "gemini-3.8-flash", provider_id="google", price_context={"processing": "batch"}
    ).total_price
    assert summary.cost_usd == pytest.approx(float(batch))
    (flex,) = summary.lanes
    assert (flex["lane"], flex["items"], flex["saved_usd"]) == ("flex", _ROWS, pytest.approx(float(batch)))


@pytest.mark.usefixtures("documents")
def test_own_prices_are_halved_at_flex(monkeypatch: pytest.MonkeyPatch) -> None:
    server = OpenAIServer()
    server.rule = lambda call: _at("flex", server)
    with server:
        summary = _run(monkeypatch, server, prices={"input_mtok": 2.0, "output_mtok": 8.0})
    assert summary.cost_usd == pytest.approx(
        (summary.total_input_tokens * 1.0 + summary.total_output_tokens * 4.0) / 1_000_000
    )


@pytest.mark.usefixtures("documents")
def test_a_model_without_flex_stops_the_run_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    server = OpenAIServer()
    unsupported = OpenAIServer.error(400, "Unsupported service_tier: flex", "invalid_value")
    server.rule = lambda call: unsupported if _is_flex(call) else None
    with server:
        summary = _run(monkeypatch, server)
    assert (summary.succeeded, server.requests) == (0, 1)
    assert summary.categories == {"model_not_found": 1}


class _Scripted(LLMCallStrategy[str]):
    def __init__(self, *answers: str | Exception | float) -> None:
        self.answers, self.calls = list(answers), 0

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        self.calls += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            return answer, {}
        await asyncio.sleep(answer)
        return "late", {}


class _Http(Exception):
    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status_code, self.message = status, message


@pytest.mark.looptime
async def test_a_slow_call_is_made_at_the_standard_tier() -> None:
    flex, standard = _Scripted(3600.0), _Scripted("standard")
    strategy = FlexStrategy(flex, standard, "m", 60.0)
    began = asyncio.get_running_loop().time()
    assert await strategy.execute("p", 1, 660.0) == ("standard", {})
    assert asyncio.get_running_loop().time() - began == pytest.approx(600)


@pytest.mark.looptime
async def test_the_standard_tier_keeps_its_timeout() -> None:
    strategy = FlexStrategy(_Scripted(_Http(503)), _Scripted(3600.0), "m", 60.0)
    with pytest.raises(TimeoutError, match=r"no answer within 60 s \(timeout_per_item\)"):
        await strategy.execute("p", 1, 660.0)


async def test_refusals_in_a_row_turn_flex_off_for_a_while() -> None:
    now = 0.0
    flex = _Scripted(_Http(503), _Http(503), "flex", _Http(503))
    standard = _Scripted("standard")
    strategy = FlexStrategy(flex, standard, "m", 60.0, clock=lambda: now)
    answers = [(await strategy.execute("p", 1, 660.0))[0] for _ in range(10)]
    assert answers == ["standard"] * 2 + ["flex"] + ["standard"] * 7
    assert flex.calls == 3 + REFUSALS_IN_A_ROW
    now = STANDARD_ONLY_SECONDS + 1
    await strategy.execute("p", 1, 660.0)
    assert flex.calls == 3 + REFUSALS_IN_A_ROW + 1


@pytest.mark.parametrize(
    ("error", "falls_back"),
    [
        (_Http(503, "overloaded"), True),
        (_Http(498, "Flex tier capacity exceeded"), True),
        (_Http(429, "Resource Unavailable"), True),
        (_Http(429, "Resource exhausted. Please try again later."), True),
        (_Http(429, "Rate limit reached for requests per min (RPM)"), False),
        (_Http(429, "You exceeded your current quota"), False),
        (_Http(500, "internal"), False),
        (_Http(400, "too long"), False),
        (_Http(401, "wrong key"), False),
        (ValueError("not JSON"), False),
    ],
)
async def test_only_missing_capacity_is_called_at_the_standard_tier(error: Exception, *, falls_back: bool) -> None:
    standard = _Scripted("standard")
    strategy = FlexStrategy(_Scripted(error), standard, "m", 60.0)
    if falls_back:
        assert await strategy.execute("p", 1, 660.0) == ("standard", {})
    else:
        with pytest.raises(type(error)):
            await strategy.execute("p", 1, 660.0)
        assert standard.calls == 0


async def test_an_unsupported_tier_is_named_with_the_providers_message() -> None:
    strategy = FlexStrategy(_Scripted(_Http(400, "Invalid service_tier argument")), _Scripted("x"), "openai:m", 60.0)
    with pytest.raises(TierUnavailable, match=r"openai:m cannot be called at flex: leave lane out.*service_tier"):
        await strategy.execute("p", 1, 660.0)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"model": "anthropic:claude-haiku-5-5"}, "lane=flex does not work with 'anthropic:claude-haiku-5-5'"),
        (
            {"model": "gemini-direct:gemini-3.8-flash"},
            "'google:gemini-3.8-flash' is the same model with one",
        ),
        ({"model": "local"}, "lane=flex does not work with 'local'"),
        ({"model": "openai:gpt-5-mini", "model_settings": {"service_tier": "priority"}}, "leave one of them out"),
    ],
)
def test_unsupported_combinations_are_refused_in_one_line(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(JobError) as found:
        check_flex(job(lane="flex", **settings))
    assert line in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.usefixtures("documents")
def test_a_model_that_is_not_sold_at_flex_is_refused_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test-key-that-is-no-secret")
    with pytest.raises(JobError, match=r"'openai:gpt-4\.1-mini' has no flex tier in the published prices"):
        plan(job(model="openai:gpt-4.1-mini", lane="flex"), "r")


@pytest.mark.usefixtures("documents")
def test_a_strategy_of_the_caller_has_no_lane() -> None:
    with pytest.raises(JobError, match="lane=flex does not work with a strategy of the caller"):
        plan(job(lane="flex"), "r", strategy="mine")


@pytest.mark.usefixtures("documents")
def test_the_command_checks_the_lane_before_it_imports_the_models_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test-key-that-is-no-secret")
    assert check(job(model="openai:gpt-5-mini", lane="flex"), with_model=False) == ("id", "text")


@pytest.mark.usefixtures("documents")
def test_an_estimate_reaches_from_flex_to_the_standard_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test-key-that-is-no-secret")

    def costs(made_for: BatchJob) -> tuple[float, float]:
        found = estimate(made_for).cost_usd
        assert found is not None
        return found.low, found.high

    flex, online = (costs(job(model="openai:gpt-5-mini", lane=lane)) for lane in ("flex", "online"))
    assert flex == (pytest.approx(online[0] / 2), pytest.approx(online[1]))
