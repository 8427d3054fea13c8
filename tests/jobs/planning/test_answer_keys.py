"""Keys of answers: what causes a new call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from batch_llm.jobs.planning.answer_keys import AnswerKeys
from tests.support.jobs import job


def test_key_contains_everything_that_influences_an_answer(home: Path) -> None:
    """Only a change of these settings causes a new call."""
    (home / "context.txt").write_text("one")
    base: dict[str, Any] = {"model": "gemini-direct:m", "cached_context": "@context.txt"}
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    changed = [
        {"instructions": "be brief"},
        {"model": "gemini-direct:n"},
        {"model_settings": {"temperature": 0}},
        {"output_schema": schema},
        {"cached_context": "two"},
    ]
    keys = {AnswerKeys(job(**{**base, **change})).key("prompt") for change in changed}
    key = AnswerKeys(job(**base)).key("prompt")
    keys |= {key, AnswerKeys(job(**base)).key("another"), AnswerKeys(job(**base), "Mine").key("prompt")}
    assert len(keys) == len(changed) + 3
    same = job(**base, source="b.csv", output="b.csv", shard_size=3, limit=1, config={"max_workers": 2})
    assert AnswerKeys(same).key("prompt") == key
    (home / "context.txt").write_text("three")
    assert AnswerKeys(job(**base)).key("prompt") != key


def test_the_order_of_settings_does_not_matter() -> None:
    """A database may change the order of keys."""
    one = AnswerKeys(job(model_settings={"temperature": 0, "max_tokens": 5}))
    assert one.key("p") == AnswerKeys(job(model_settings={"max_tokens": 5, "temperature": 0})).key("p")
