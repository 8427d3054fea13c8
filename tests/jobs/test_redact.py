"""Secrets do not reach files or screens."""

from __future__ import annotations

import pytest

from batch_llm.jobs.redact import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abcdefghij", "Authorization: Bearer ***"),
        ("Authorization: Basic aHVudGVyOmh1bnRlcg==", "Authorization: Basic ***"),
        ("no route to http://me:pass@proxy:8080/v1", "no route to http://***@proxy:8080/v1"),
        ("postgresql://:p4ss@db/x and redis://me@db:6379/0", "postgresql://***@db/x and redis://me@db:6379/0"),
        ("see http://host:80/a@b", "see http://host:80/a@b"),
        ("GET /v1?key=abcdefghij&x=1", "GET /v1?key=***&x=1"),
        ('{"api_key": "abcdefghij"}', '{"api_key": "***"}'),
        ("Incorrect API key provided: sk-proj-abcdef123456.", "Incorrect API key provided: ***."),
        ("the key to success is work", "the key to success is work"),
        ("Expected 4290 tokens", "Expected 4290 tokens"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, shown: str) -> None:
    """And an ordinary sentence is left alone."""
    assert redact(text) == shown


def test_values_of_secret_variables_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever they stand in the text; short ones would hide ordinary words."""
    monkeypatch.setenv("MY_TOKEN", "qwertyuiop")
    monkeypatch.setenv("MY_PASSWORD", "test")
    assert redact("a qwertyuiop in a test") == "a *** in a test"
