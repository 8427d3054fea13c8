"""Text of rows, answers and providers cannot control a terminal."""

from __future__ import annotations

import json

import pytest

from batch_llm.jobs.untrusted_text import visible, visible_json

ATTACKS = {
    "\x1b[2Jgone": "\\x1b[2Jgone",
    "\x1b]52;c;cHduZWQ=\x07": "\\x1b]52;c;cHduZWQ=\\x07",
    "\x9b31mred": "\\x9b31mred",
    "over\rwritten\b": "over\\x0dwritten\\x08",
    "\u202egpj.exe": "\\u202egpj.exe",
    "\u2066x\u2069": "\\u2066x\\u2069",
    "two\u2028lines": "two\\u2028lines",
    "half \ud83d": "half \\ud83d",
}


@pytest.mark.parametrize("text", ATTACKS)
def test_control_characters_are_escaped(text: str) -> None:
    """C0 and C1, bidirectional overrides, unusual line breaks, single surrogates."""
    assert visible(text) == ATTACKS[text]


@pytest.mark.parametrize("text", ["a\tb\nc", "grün 日本語 שלום مرحبا 👩‍👩‍👧 🏴󠁧󠁢󠁥󠁮󠁧󠁿", "C:\\dir \\x1b"])
def test_other_text_is_not_changed(text: str) -> None:
    """Every script, emoji that are joined, tabs and line breaks."""
    assert visible(text) == text


@pytest.mark.parametrize("text", ATTACKS)
def test_escaped_json_has_the_same_value(text: str) -> None:
    """Parsing the escaped JSON gives the same value."""
    line = visible_json(json.dumps({text: text}, ensure_ascii=False))
    assert json.loads(line) == {text: text}
    assert visible(line) == line
