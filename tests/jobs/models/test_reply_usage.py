"""Token usage in replies: names of all providers, impossible numbers, and parts counted next to their total."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.jobs.models.reply_usage import normalize_usage
from batch_llm.strategies.billing import MOST_TOKENS, billed, complete, tokens_in, usage_of

_ANSWER = "an answer of some words"


def _chat(usage: Any) -> dict[str, Any]:
    return {"object": "chat.completion", "choices": [{"message": {"content": _ANSWER}}], "usage": usage}


@pytest.mark.parametrize(
    ("usage", "wanted"),
    [
        ({"input_tokens": 100, "output_tokens": 20}, (100, 20)),
        ({"promptTokenCount": 100, "candidatesTokenCount": 20, "totalTokenCount": 120}, (100, 20)),
        ({"prompt_tokens": "100", "completion_tokens": "20"}, (100, 20)),
        ({"prompt_tokens": 100.0, "completion_tokens": 20.0}, (100, 20)),
        ({"prompt_tokens": None, "completion_tokens": None}, (0, 0)),
        ({"prompt_tokens": 12.5, "completion_tokens": -3}, (13, 0)),
        ({"prompt_tokens": 12.4, "completion_tokens": "2.5"}, (12, 3)),
        ({"prompt_tokens": 10**18, "completion_tokens": True}, (0, 0)),
        ({"prompt_tokens": [1], "completion_tokens": {"a": 1}}, (0, 0)),
        (
            {"input_tokens": 10, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 1},
            (22, 1),
        ),
    ],
)
def test_a_chat_completion_has_counts_that_its_client_reads(usage: Any, wanted: tuple[int, int]) -> None:
    """A missing count is 0 and is estimated later."""
    body = _chat(usage)
    assert normalize_usage(body)
    found = body["usage"]
    assert (found["prompt_tokens"], found["completion_tokens"]) == wanted
    assert found["total_tokens"] == sum(wanted)


@pytest.mark.parametrize("usage", ["none", [], 5])
def test_usage_that_is_not_an_object_is_removed(usage: Any) -> None:
    body = _chat(usage)
    assert normalize_usage(body)
    assert body["usage"] is None


@pytest.mark.parametrize(
    "body",
    [
        _chat({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}),
        _chat(None),
        {"type": "message", "usage": {"input_tokens": 1, "output_tokens": 2, "service_tier": "standard"}},
        {"candidates": [], "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3}},
        {"error": {"message": "no"}, "usage": "none"},
    ],
)
def test_valid_reply_is_not_changed(body: dict[str, Any]) -> None:
    before = json.dumps(body)
    assert not normalize_usage(body)
    assert json.dumps(body) == before


def test_reasoning_tokens_next_to_completion_tokens_count_as_output() -> None:
    """If the total shows it, or if it is larger than the completion tokens; but only once."""
    details = {"completion_tokens_details": {"reasoning_tokens": 30}}
    beside = _chat({"prompt_tokens": 10, "completion_tokens": 50, "total_tokens": 90, **details})
    within = _chat({"prompt_tokens": 10, "completion_tokens": 50, "total_tokens": 60, **details})
    more = _chat({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, **details})
    known = _chat({"prompt_tokens": 10, "completion_tokens": 50, "total_tokens": 90, **details})
    assert (
        normalize_usage(beside),
        normalize_usage(within),
        normalize_usage(more),
        normalize_usage(known, "api.x.ai"),
    ) == (
        True,
        False,
        True,
        False,
    )
    assert (beside["usage"]["completion_tokens"], more["usage"]["completion_tokens"]) == (80, 35)


_NUMBERS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.just(10**18),
)


@given(
    st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens"]), _NUMBERS)
)
def test_any_reported_usage_becomes_integer_counts(usage: dict[str, Any]) -> None:
    body = _chat(usage)
    normalize_usage(body)
    for name in ("prompt_tokens", "completion_tokens", "total_tokens") if usage else ():
        assert type(body["usage"][name]) is int
        assert 0 <= body["usage"][name] <= 2 * MOST_TOKENS


@pytest.mark.parametrize("bad", [0, -5, 10**18, 2.5, None, True])
def test_impossible_counts_are_estimated_separately(bad: Any) -> None:
    sent, received = "x" * 400, "y" * 40
    both = billed({"input_tokens": bad, "output_tokens": bad}, lambda: sent, lambda: received)
    assert (both.units, both.estimated) == ({"input_tokens": 100, "output_tokens": 10}, 110)
    one = usage_of([billed({"input_tokens": 7, "output_tokens": bad}, lambda: sent, lambda: received)])
    assert one == {"input_tokens": 7, "output_tokens": 10, "total_tokens": 17, "estimated_tokens": 10}


def test_token_estimate_depends_on_the_script() -> None:
    assert (tokens_in("word" * 10), tokens_in("語" * 40), tokens_in("")) == (10, 30, 0)


@pytest.mark.parametrize(
    ("usage", "wanted", "estimated"),
    [
        ({}, (3, 2), 5),
        ({"input_tokens": 0, "output_tokens": 0}, (3, 2), 5),
        ({"prompt_tokens": 9, "completion_tokens": 4}, (9, 4), 0),
        ({"input_tokens": 9.0, "output_tokens": 4.0}, (9, 4), 0),
        ({"input_tokens": -9, "output_tokens": 4}, (3, 4), 3),
        ({"input_tokens": 9}, (9, 0), 0),
    ],
)
def test_unusable_usage_of_any_strategy_is_estimated(
    usage: dict[str, Any], wanted: tuple[int, int], estimated: int
) -> None:
    found = complete(usage, "a" * 12, lambda: "b" * 8)
    assert (found["input_tokens"], found.get("output_tokens", 0)) == wanted
    assert found.get("estimated_tokens", 0) == estimated
