"""Extraction of a JSON answer from text: the only object that matches the schema, never a guess."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from batch_llm.strategies.blank_text import is_blank
from batch_llm.strategies.output_schema import shape_of

_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"kind": {"type": "string"}, "note": {"type": "string"}},
    "required": ["kind", "note"],
    "additionalProperties": False,
}
_GOOD = '{"kind": "late", "note": "a {brace} in ```it```"}'
_DRAFT = '{"kind": "DRAFT", "note": "no"}'


class Node(BaseModel):
    """Recursive model."""

    name: str
    child: Node | None = None


@pytest.mark.parametrize(
    "text",
    [
        f"Sure! Here is the JSON:\n\n{_GOOD}",
        f"{_GOOD}\n\nLet me know if {{you}} need anything else!",
        f"```json {_GOOD} ```",
        f"~~~json\n{_GOOD}\n~~~",
        f"\ufeff{_GOOD}",
        f"json\n{_GOOD}",
        f"[{_GOOD}]",
        json.dumps(_GOOD),
        f'{{"answer": {_GOOD}}}',
        f"<think>{_DRAFT}</think>{_GOOD}",
        f"The tag was in the prompt. {_DRAFT}</think>\n{_GOOD}",
        f"Draft:\n```json\n{_DRAFT}\n```\nFinal answer:\n```json\n{_GOOD}\n```",
        f"{_GOOD} and once more {_GOOD}",
        f'Fill in {{"kind": "..."}}: {_GOOD}',
        f"\\boxed{{{_GOOD}}}",
        f'{{"kind": "broken", }} {_GOOD}',
    ],
)
def test_only_object_that_matches_the_schema_is_the_answer(text: str) -> None:
    """In a sentence, in a fenced block, in a list with one element, or after thoughts."""
    assert shape_of(_SCHEMA).parse(text) == json.loads(_GOOD)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{_DRAFT} or {_GOOD}", "There are 2 different JSON objects in the answer; return exactly one"),
        (f"[{_DRAFT}, {_GOOD}]", "does not fit the schema"),
        (f"```\n{_DRAFT}\n{_GOOD}\n```", "There are 2 different JSON objects"),
        (f"{_DRAFT}\n```\n{_GOOD}\n```", "There are 2 different JSON objects"),
        ('{"kind": "a", "kind": "b", "note": ""}', "The key 'kind' occurs twice, with different values"),
        ('{"kind": NaN, "note": ""}', "NaN is not a JSON value"),
        ('{"kind": "\\ud83d", "note": ""}', "half a surrogate pair"),
        ('{"kind": "late", "note": "x",}', "Invalid JSON"),
        ('{"a":' * 100_000, "too many levels"),
        ("no object", "Invalid JSON"),
    ],
)
def test_ambiguous_objects_are_rejected_with_a_reason(text: str, reason: str) -> None:
    """The error has the reason, which is sent to the model in the next request."""
    with pytest.raises(ValueError, match=reason):
        shape_of(_SCHEMA).parse(text)


@pytest.mark.parametrize(
    "text", ['{"child": {"name": "b"}}', 'x {"name": 5, "child": {"name": "b"}}', '{"name": a, "child": {"name": "b"}}']
)
def test_nested_object_is_not_the_answer(text: str) -> None:
    """Although it matches the schema, if the type is recursive."""
    for shape in (shape_of(Node), shape_of(Node.model_json_schema())):
        with pytest.raises(ValueError, match=r"name|Invalid JSON"):
            shape.parse(text)


@pytest.mark.parametrize(
    "text", ['{"n": 9223372036854775808}', '{"x": 1e400}', '{"x": -1e999}', f'{{"x": {"1" * 400}}}', '{"x": Infinity}']
)
def test_numbers_that_would_become_null_are_refused(text: str) -> None:
    """Columns of an output can have 64-bit integers and finite numbers."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "x": {"type": "number"}}}
    with pytest.raises(ValueError, match=r"too large|not a JSON value"):
        shape_of(schema).parse(text)
    assert shape_of(schema).parse('{"n": 9223372036854775807, "x": 1e308}') == {"n": 2**63 - 1, "x": 1e308}


@pytest.mark.parametrize("text", ["", "\n \t", "\u200b\u2060\ufeff", "\u3164\u115f", "\u2800", "\ufe0f", "\U000e0020"])
def test_invisible_text_is_blank(text: str) -> None:
    """Text without any visible character is blank."""
    assert is_blank(text)
    assert not is_blank(f"{text}.")
