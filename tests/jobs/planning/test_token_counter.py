"""Input tokens are counted before the first call if the tokenizer of the model is known."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from batch_llm.jobs.planning.estimate import estimate
from batch_llm.jobs.planning.token_counter import TOKENS_A_CALL, TOKENS_A_MESSAGE, count_tokens, tokenizer_of
from tests.support.jobs import job, write_lines


def counted(encoding: str, texts: list[str]) -> list[int]:
    found = count_tokens(encoding, texts)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("openai-chat:gpt-6-luna", "o200k_base"),
        ("openai:gpt-4o-mini", "o200k_base"),
        ("openai-responses:gpt-4.1", "o200k_base"),
        ("openai:o3", "o200k_base"),
        ("openai:gpt-4-turbo", "cl100k_base"),
        ("openai:gpt-3.5-turbo", "cl100k_base"),
        ("openai-chat:my-model", None),
        ("anthropic:claude-haiku-5-5", None),
    ],
)
def test_tokenizer_follows_from_the_name_of_the_model(model: str, encoding: str | None) -> None:
    assert tokenizer_of(model) == encoding


def test_token_count_equals_the_count_that_openai_billed() -> None:
    """For the example of OpenAI's cookbook and the count of its API; each of the four names costs one token more."""
    system = "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."
    examples = [
        "New synergies will help drive top-line growth.",
        "Things working well together will increase revenue.",
        "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
        "Let's talk later when we're less busy about how to do better.",
    ]
    user = "This late pivot means we don't have time to boil the ocean for the client deliverable."
    names = ["example_user", "example_assistant"] * 2
    for encoding, billed in (("o200k_base", 124), ("cl100k_base", 129)):
        texts = sum(counted(encoding, [system, *examples, user, *names]))
        assert texts + len(names) + 6 * TOKENS_A_MESSAGE + TOKENS_A_CALL == billed


def test_first_estimate_has_the_exact_input_tokens(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All documents have the same length, so the sample is exact; with a schema the estimate is a range."""
    monkeypatch.setenv("OPENAI_API_KEY", "test-key-that-is-no-secret")
    write_lines(home / "docs.jsonl", *({"id": str(number), "text": "tiktoken is great!"} for number in range(20)))
    common: dict[str, Any] = {"model": "openai-chat:gpt-4.1-mini", "instructions": "Be brief."}
    text, instructions = counted("o200k_base", ["tiktoken is great!", "Be brief."])
    found = estimate(job(**common))
    each = text + instructions + 2 * TOKENS_A_MESSAGE + TOKENS_A_CALL
    assert (found.input_tokens.low, found.input_tokens.high) == (20 * each, 20 * each)
    assert found.is_guess
    assert found.calibrated_by.startswith("input: counted with the model's tokenizer")
    schema = {"type": "object", "properties": {"title": {"type": "string"}}}
    shaped = estimate(job(**common, output_schema=schema)).input_tokens
    assert shaped.low == 20 * each < shaped.expected < shaped.high < 2.5 * shaped.low


def test_input_is_estimated_from_characters_without_the_tokenizers(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are an extra, whose package has no wheels for some systems; the estimate names it."""
    monkeypatch.setitem(sys.modules, "toktok", None)
    write_lines(home / "docs.jsonl", *({"id": str(number), "text": "x" * 80} for number in range(20)))
    found = estimate(job(model="openai-chat:gpt-4.1-mini"))
    assert (found.input_tokens.low, found.input_tokens.expected, found.input_tokens.high) == (200, 400, 800)
    assert found.calibrated_by.startswith(
        "input: 2 to 8 characters per token, because the tokenizer of the model is not installed (pip install "
        "'batch-llm[tokenizers]'); output: a guess"
    )
    assert "tokenizer" not in estimate(job(model="anthropic:claude-haiku-5-5")).calibrated_by
