"""Nested values in prompts, and prompts that are the same for each row, from sources of several kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import check, plan
from tests.support.jobs import broken, documents, items, job, prompts, write_lines

PROMPT = "{meta.title}: {tags[0]}"


def test_nested_values_of_json_lines_and_parquet(home: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "a", "meta": {"title": "One"}, "tags": ["x"]},
        {"id": "b", "meta": {"title": "Two"}, "tags": []},
        {"id": "c", "meta": None, "tags": None},
    ]
    write_lines(home / "docs.jsonl", *rows)
    duckdb.sql(f"COPY (FROM '{home}/docs.jsonl') TO '{home}/docs.parquet'")
    expected = {"a": "One: x", "b": "Two: ", "c": ": "}
    assert prompts(plan(job(prompt=PROMPT), "r1")) == expected
    assert prompts(plan(job(prompt=PROMPT, source="docs.parquet", name="other"), "r2")) == expected


def test_a_row_with_a_value_of_another_kind_fails_alone(home: Path) -> None:
    write_lines(home / "docs.jsonl", {"id": "a", "meta": {"title": "One"}}, {"id": "b", "meta": "none"})
    made = plan(job(prompt="{meta.title}"), "r1")
    assert prompts(made) == {"a": "One"}
    assert broken(made) == {"b": ".title cannot be read from column 'meta', because the value there is text"}


def test_a_field_that_no_row_has_is_refused_before_a_call(home: Path) -> None:
    write_lines(home / "docs.jsonl", *({"id": n, "meta": {"title": "T"}} for n in range(3)))
    for limit in (None, 2):
        with pytest.raises(JobError, match=r"inside column 'meta' that no row has: there is no \{meta.tilte\}"):
            plan(job(prompt="{meta.tilte}", limit=limit), "r1")


def test_a_column_with_dots_in_a_csv_file(home: Path) -> None:
    (home / "docs.csv").write_text("id,dc:title,author.name\n1,T,Ada\n")
    made = plan(job(source="docs.csv", prompt="{dc:title} by {author.name}"), "r1")
    assert prompts(made) == {"1": "T by Ada"}


def test_the_limit_counts_broken_rows_too(home: Path) -> None:
    write_lines(home / "docs.jsonl", "no json", {"id": "a", "text": "t"}, {"id": "b", "text": "t"})
    assert plan(job(limit=2), "r1").total == 2
    assert plan(job(limit=3), "r2").total == 3


def test_a_prompt_without_a_column_is_refused(home: Path) -> None:
    documents(home, a="one", b="two")
    with pytest.raises(JobError, match=r"the prompt uses no column.*constant_prompt=true"):
        check(job(prompt="hello"))
    check(job(prompt="hello", constant_prompt=True))
    check(job(prompt="hello", limit=1))
    documents(home, a="one")
    check(job(prompt="hello"))


def test_confirming_a_constant_prompt_keeps_the_answers(home: Path) -> None:
    documents(home, a="one")
    made = [plan(job(prompt="hello", name=f"n{n}", constant_prompt=bool(n)), "r") for n in range(2)]
    one, other = (items(each)[0]["key"] for each in made)
    assert one == other
