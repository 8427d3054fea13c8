"""Limits in a provider's response headers are respected; other headers change nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm import Governor
from batch_llm.pacing.pacer import CallPermit

SENT = {"date": "Sun, 06 Nov 1994 08:49:37 GMT"}


def openai(limit: object, remaining: object, reset: str, kind: str = "requests") -> dict[str, str]:
    parts = {"limit": limit, "remaining": remaining, "reset": reset}
    return {f"x-ratelimit-{part}-{kind}": str(value) for part, value in parts.items()}


def anthropic(limit: int, remaining: int, reset: str) -> dict[str, str]:
    parts = {"limit": limit, "remaining": remaining, "reset": reset}
    return SENT | {f"anthropic-ratelimit-requests-{part}": str(value) for part, value in parts.items()}


def governor_after(headers: dict[str, str]) -> Governor:
    governor = Governor()
    governor.on_headers(headers, 100.0)
    return governor


@pytest.mark.parametrize(
    ("headers", "rate"),
    [
        (openai(300, 299, "200ms"), 5),
        (openai(300, 150, "30s"), 5),
        (openai(60, 0, "1m0s"), 1),
        (anthropic(300, 200, "1994-11-06T08:49:57Z"), 5),
        (anthropic(300, 200, "1994-11-06T08:49:57"), 5),
        (anthropic(300, 200, "1994-11-06T08:49:57-00:00"), 5),
        (anthropic(300, 200, "1994-11-06T10:49:57+02:00"), 5),
        (anthropic(300, 200, "Sun, 06 Nov 1994 08:49:57 -0000"), 5),
        (anthropic(300, 200, "1994-11-06T08:49:57Z") | {"date": "Sun, 06 Nov 1994 08:49:37 -0000"}, 5),
        (anthropic(300, 200, "784111797"), 5),  # seconds since 1970
        (SENT | openai(300, 200, "784111797000.0"), 5),  # milliseconds
        (openai(300, 200, " 0m20s "), 5),
        (openai(300, 299, "200000us"), 5),
    ],
)
def test_limit_per_minute_bounds_the_rate(headers: dict[str, str], rate: float) -> None:
    assert governor_after(headers).rate == pytest.approx(rate)


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
        anthropic(300, 200, "1994-11-06T08:49:57Z") | {"date": "yesterday"},
        openai(300, 200, "784111797"),  # and no date to measure it from
        openai("nan", 0, "1s"),
        openai("inf", 0, "1s"),
        openai(300, -1, "1s"),
        openai(300, 200, "nan"),
        openai(300, 200, "-20s"),
        openai(300, 200, "9" * 5000),
        openai("9" * 5000, 0, "1s"),
        openai(300, 200, "0" * 5000 + "20s"),
        anthropic(300, 200, "99999-01-01T00:00:00Z"),
    ],
)
def test_other_headers_do_not_bound_the_rate(headers: dict[str, str]) -> None:
    governor = governor_after(headers)
    assert governor.rate == 10
    assert governor.reserve(100.0, CallPermit(1)) == 100.0


@pytest.mark.parametrize("kind", ["requests", "tokens"])
def test_calls_wait_for_the_reset_if_nothing_remains(kind: str) -> None:
    governor, turn = governor_after(openai(500, 0, "2.5s", kind)), CallPermit(1)
    now = 100.0
    while (start := governor.reserve(now, turn)) > now:
        now = start
    assert now == pytest.approx(102.5)


def test_wait_for_a_distant_reset_is_capped_at_a_minute() -> None:
    governor, turn = governor_after(openai(500, 0, "11h0m0s")), CallPermit(1)
    now = 100.0
    while (start := governor.reserve(now, turn)) > now:
        now = start
    assert now == pytest.approx(160)


ODD = st.text(max_size=40) | st.sampled_from(
    [
        "",
        "nan",
        "-inf",
        "1e309",
        "-1",
        "0",
        "60",
        "9" * 5000,
        "1m30s",
        "\u0661s",
        "2026-11-28T16:30:10",
        "1732812345678",
        "Sat, 28 Nov 2026 16:30:00 GMT",
        "Sat, 28 Nov 2026 16:30:00 -0000",
        "Sat, 28 Nov 99999999999999999999 16:30:00",
    ]
)
PARTS = ("limit", "remaining", "reset")
NAMES = [
    *(f"x-ratelimit-{part}-{kind}" for part in PARTS for kind in ("requests", "tokens")),
    *(f"anthropic-ratelimit-requests-{part}" for part in PARTS),
    "date",
]


@given(st.dictionaries(st.sampled_from(NAMES), ODD | st.none() | st.integers() | st.binary()))
def test_malformed_headers_fail_no_call(headers: dict[str, Any]) -> None:
    governor = governor_after(headers)
    assert governor.rate is not None
    assert 0 < governor.rate <= 10
    assert governor.reserve(100.0, CallPermit(1)) <= 160.0
