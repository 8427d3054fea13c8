"""Prompt templates and keys of answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.errors import JobError
from batch_llm.jobs.prompts import Prompt

_TEXT = st.text("{}[]ab :é\n")
_PARTS = st.lists(st.tuples(_TEXT, st.text("abé _", min_size=1)), max_size=5)


@given(_PARTS, _TEXT, st.data())
def test_literal_text_and_values_are_not_changed(parts: list[tuple[str, str]], end: str, data: st.DataObject) -> None:
    """Also with braces in the text and in the values."""
    row = {name: data.draw(_TEXT) for _, name in parts}
    escaped = [text.replace("{", "{{").replace("}", "}}") for text, _ in parts]
    template = "".join(f"{text}{{{name}}}" for text, (_, name) in zip(escaped, parts, strict=True))
    template += end.replace("{", "{{").replace("}", "}}")
    assert Prompt(template).render(row) == "".join(text + row[name] for text, name in parts) + end


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (1, "1"), (1.5, "1.5"), (True, "true"), ({"a": ["ü"]}, '{"a":["ü"]}'), ([], "[]"), ("{x}", "{x}")],
)
def test_values_are_readable(value: Any, shown: str) -> None:
    """Null is empty, nested values are JSON, braces in a value have no meaning."""
    assert Prompt("{x}").render({"x": value}) == shown


@pytest.mark.parametrize("template", ["{", "}", "{}", "{x!r}", "{x:>3}", "{x", "{x}}"])
def test_invalid_template_is_rejected(template: str) -> None:
    """The error is one line that explains how to write braces."""
    with pytest.raises(JobError, match="invalid prompt template") as error:
        Prompt(template)
    assert "{{ and }}" in str(error.value)


@pytest.mark.parametrize(
    ("template", "column"),
    [
        *(
            (f"{{{name}}}", name)
            for name in ("dc:title", "user!name", "a.b", "x[0]", "0", "Größe", "two words", "a:b!c")
        ),
        *((f"{{{name}}}", name) for name in ("price: net", ":", "!", '"q"', "10:30")),
        ("{total {{EUR}}}", "total {EUR}"),
        ("{{{a{{b}}{{c}}}}}", "a{b}{c}"),
    ],
)
def test_a_column_may_have_any_name(template: str, column: str) -> None:
    """Braces in it are written as in the text around it."""
    prompt = Prompt(f"{template} {{{{{template}}}}}")
    assert prompt.columns == (column,)
    text = Prompt(template).render({column: "V"})
    assert text in ("V", "{V}")
    assert prompt.render({column: "V"}) == f"{text} {{{text}}}"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{author.name}", "Ada"),
        ("{author.tags[0]} {author.tags[-1]}", "x z"),
        ("{author.tags[7]}{author.born}", ""),
        ("{authors[1].name}", "Bo"),
        ("{author.address}", '{"city":"Ulm"}'),
        ("{author.address.city}", "Ulm"),
        ("{empty.name[0]}", ""),
        ("{a.b}", "a column of this name"),
        ("{a.b.c}", "inside it"),
        ("{a.d}", "in column a"),
        ("{dc:title.main}", "T"),
        ("{author.two words}", "yes"),
    ],
)
def test_a_value_inside_a_column_can_be_used(template: str, text: str) -> None:
    """The column with the longest name comes first; a missing field is empty text, as null is."""
    row: dict[str, Any] = {
        "author": {"name": "Ada", "tags": ["x", "y", "z"], "address": {"city": "Ulm"}, "two words": "yes"},
        "authors": [{"name": "Al"}, {"name": "Bo"}],
        "empty": None,
        "a": {"b": "not used", "d": "in column a"},
        "a.b": "a column of this name",
        "dc:title": {"main": "T"},
    }
    if template == "{a.b.c}":
        row["a.b"] = {"c": "inside it"}
    assert Prompt(template).render(row) == text


def test_attributes_of_values_cannot_be_read() -> None:
    """Rows are not trusted: names are keys of objects, and never attributes of Python's values."""
    for name in ("__class__", "__class__.__mro__", "keys", "__len__"):
        bound = Prompt(f"{{doc.{name}}}").bind(["doc"])
        assert bound.render({"doc": {}}) == ""
        with pytest.raises(ValueError, match="the value there is text"):
            bound.render({"doc": "text"})
        with pytest.raises(JobError, match="uses a value inside column 'doc' that no row has"):
            bound.check_found()


def test_a_field_that_some_row_has_is_found() -> None:
    bound = Prompt("{doc.title} {doc.tags[0]}").bind(["doc"])
    for doc in ({"title": "T"}, {"tags": [None]}, None):
        bound.render({"doc": doc})
    bound.check_found()


def test_text_that_looks_like_a_column_is_reported() -> None:
    """For example JSON in a prompt."""
    with pytest.raises(JobError, match=r"uses column '\"a\": 1', which .* write literal braces as \{\{ and \}\}"):
        Prompt('{"a": 1} {text}').check(["id", "text"])


def test_unknown_column_is_reported_with_existing_columns() -> None:
    """The error lists the existing columns."""
    with pytest.raises(JobError, match="uses column 'txt', which is not in the source: it has id, text"):
        Prompt("{txt}").check(["id", "text"])
