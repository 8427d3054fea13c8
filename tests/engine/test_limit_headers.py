"""What providers' headers tell of a limit is kept; what they mean otherwise changes nothing."""

from __future__ import annotations

import pytest

from batch_llm import Governor
from batch_llm._turn import Turn

SENT = {"date": "Sun, 06 Nov 1994 08:49:37 GMT"}


def openai(limit: object, remaining: object, reset: str, kind: str = "requests") -> dict[str, str]:
    parts = {"limit": limit, "remaining": remaining, "reset": reset}
    return {f"x-ratelimit-{part}-{kind}": str(value) for part, value in parts.items()}


def anthropic(limit: int, remaining: int, reset: str) -> dict[str, str]:
    parts = {"limit": limit, "remaining": remaining, "reset": reset}
    return SENT | {f"anthropic-ratelimit-requests-{part}": str(value) for part, value in parts.items()}


def heard(headers: dict[str, str]) -> Governor:
    governor = Governor()
    governor.hear(headers, 100.0)
    return governor


@pytest.mark.parametrize(
    ("headers", "rate"),
    [
        (openai(300, 299, "200ms"), 5),
        (openai(300, 150, "30s"), 5),
        (openai(60, 0, "1m0s"), 1),
        (anthropic(300, 200, "1994-11-06T08:49:57Z"), 5),
    ],
)
def test_a_limit_of_a_minute_is_never_exceeded(headers: dict[str, str], rate: float) -> None:
    assert heard(headers).rate == pytest.approx(rate)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        openai(200, 199, "7m12s"),  # of a day: groq's requests, OpenAI's free tier
        openai(60, 60, "0s"),
        openai(60, 59, "soon"),
        openai("many", 59, "1s"),
        openai(60, 61, "1s"),
        openai(300, 150, "30s", kind="tokens"),
        anthropic(300, 200, "tomorrow"),
    ],
)
def test_anything_else_leaves_the_rate_to_be_found(headers: dict[str, str]) -> None:
    governor = heard(headers)
    assert governor.rate == 10
    assert governor.ask(100.0, Turn(1)) == 100.0


@pytest.mark.parametrize("kind", ["requests", "tokens"])
def test_where_nothing_is_left_calls_wait_for_the_reset(kind: str) -> None:
    governor, turn = heard(openai(500, 0, "2.5s", kind)), Turn(1)
    now = 100.0
    while (start := governor.ask(now, turn)) > now:
        now = start
    assert now == pytest.approx(102.5)


def test_a_reset_far_away_is_no_reason_to_wait_for_it() -> None:
    governor, turn = heard(openai(500, 0, "11h0m0s")), Turn(1)
    now = 100.0
    while (start := governor.ask(now, turn)) > now:
        now = start
    assert now == pytest.approx(160)
