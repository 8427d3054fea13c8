"""The lower of a scope's limit and a run's limit applies, and both are reported."""

from __future__ import annotations

from dataclasses import asdict

from hypothesis import given
from hypothesis import strategies as st

from batch_llm.config import Limits
from batch_llm.prefect.rate_limits.stated_limits import conflicts, merged

_NUMBER = st.none() | st.integers(1, 10_000)
_LIMITS = st.builds(Limits, **dict.fromkeys(asdict(Limits()), _NUMBER))


@given(_LIMITS, _LIMITS)
def test_the_lower_of_each_limit_applies(stated: Limits, own: Limits) -> None:
    found, theirs, ours = asdict(merged(stated, own)), asdict(stated), asdict(own)
    for name, number in found.items():
        known = [value for value in (theirs[name], ours[name]) if value is not None]
        assert number == min(known, default=None)
    assert merged(None, own) == own


@given(_LIMITS, _LIMITS)
def test_each_difference_is_reported_in_a_sentence(stated: Limits, own: Limits) -> None:
    theirs, ours = asdict(stated), asdict(own)
    different = [name for name in ours if None not in (ours[name], theirs[name]) and ours[name] != theirs[name]]
    assert len(conflicts("a", stated, own)) == len(different)
    assert conflicts("a", None, own) == []


def test_sentence_has_the_limit_that_applies_and_the_reason() -> None:
    stated, own = Limits(requests_per_minute=600, tokens_per_minute=50), Limits(requests_per_minute=120)
    (sentence,) = conflicts("openai-chat:m", stated, own)
    assert sentence == (
        "requests per minute: `limits` of the run (120) applies, because it is lower than `batch-llm limit` for "
        "openai-chat:m (600)."
    )
    assert conflicts("s", own, stated) == [
        (
            "requests per minute: `batch-llm limit` for s (120) applies, because it is lower than "
            "`limits` of the run (600)."
        )
    ]
