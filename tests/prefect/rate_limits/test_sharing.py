"""Two processes share a scope through a real Prefect server: shares, a cooldown, a limit set meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from batch_llm import Governor, Limits
from batch_llm.pacing.pacer import CallPermit
from tests.support.prefect_server import eventually

pytestmark = pytest.mark.prefect


@contextmanager
def two_members(scope: str, limits: Limits) -> Generator[tuple[Governor, Governor]]:
    from batch_llm.prefect.rate_limits.sharing import shared

    first, second = Governor(limits), Governor(limits)
    with shared(scope, first, limits), shared(scope, second, limits):
        yield first, second


def use(*governors: Governor) -> None:
    """Request more calls than the limit allows."""
    for governor in governors:
        while governor.reserve(time.monotonic(), CallPermit(10)) <= time.monotonic():
            pass


def test_processes_share_limit_and_cooldowns_and_use_a_limit_set_meanwhile(
    prefect_api: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.variables import Variable

    from batch_llm.prefect.rate_limits.stated_limits import variable_name

    def shares() -> list[float]:
        use(*both)
        return [governor.status().share for governor in both]

    monkeypatch.setattr(
        "batch_llm.prefect.rate_limits.sharing.JOIN_SECONDS", 30
    )  # on a busy machine both might start without the other's report
    caplog.set_level(logging.INFO, "httpx")
    with two_members("openai-chat:gpt-6-luna", Limits(requests_per_minute=3000)) as both:
        assert shares() == [1, pytest.approx(0, abs=1e-3)]
        eventually(lambda: shares() == [0.5, 0.5], seconds=15)
        caplog.clear()
        seconds = 5
        end = time.monotonic() + seconds
        eventually(lambda: shares() != [0.5, 0.5] or time.monotonic() > end, seconds=15)
        assert shares() == [0.5, 0.5]
        assert sum(
            record.name == "httpx" and "gpt-6-luna" in (record.threadName or "") for record in caplog.records
        ) <= 2 * (seconds * 0.5 + 1)

        now = time.monotonic()
        assert both[0].finish(CallPermit(10, started=now), now, "rate limited", {})
        both[0].set_cooldown_end(now + 20, now)
        eventually(lambda: both[1].scope.sample_usage(now).paused_until > now, seconds=2)
        assert both[1].scope.sample_usage(now).paused_until == pytest.approx(now + 20, abs=1)

        Variable.set(variable_name("openai-chat:gpt-6-luna"), {"requests_per_minute": 600})
        eventually(lambda: [each.limits.requests_per_minute for each in both] == [600, 600], seconds=5)
        Variable.unset(variable_name("openai-chat:gpt-6-luna"))
        eventually(lambda: [each.limits.requests_per_minute for each in both] == [3000, 3000], seconds=5)


@pytest.mark.parametrize("deletes", [True, False])
def test_process_that_left_leaves_the_whole_limit_to_the_next(
    prefect_api: str, monkeypatch: pytest.MonkeyPatch, deletes: bool
) -> None:
    """At once, also in the same process, and if the server on SQLite is too busy to delete a record."""
    from prefect.client.orchestration import PrefectClient
    from prefect.exceptions import PrefectHTTPStatusError

    from batch_llm.prefect.rate_limits.sharing import shared, shares_released_at_end

    request = PrefectClient.request

    async def busy(client: PrefectClient, method: Any, *place: Any, **about: Any) -> httpx.Response:
        if method != "DELETE" or deletes:
            return await request(client, method, *place, **about)
        answer = httpx.Response(
            503, json={"exception_message": "Service Unavailable"}, request=httpx.Request("GET", "")
        )
        raise PrefectHTTPStatusError("503", request=answer.request, response=answer)

    monkeypatch.setattr(PrefectClient, "request", busy)
    monkeypatch.setattr("batch_llm.prefect.rate_limits.sharing.JOIN_SECONDS", 30)
    limits = Limits()
    for _ in range(2):
        governor = Governor(limits)
        with shares_released_at_end(governor), shared(f"left-{deletes}", governor, limits):
            assert governor.status().share == 1
