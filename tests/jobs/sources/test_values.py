"""Values of sources in prompts and ids."""

from __future__ import annotations

from pathlib import Path

import duckdb

from batch_llm.jobs import plan
from tests.support.jobs import VALUES_OF_TYPES, broken, job, prompts, write_lines


def test_json_values_keep_their_type(home: Path) -> None:
    """Text that looks like a date or a number stays text; nested values are JSON; null is empty."""
    write_lines(
        home / "docs.jsonl",
        {"id": 1, "when": "2024-01-01T00:00:00Z", "zip": "007", "tags": {"a": [1, "x"]}, "mixed": 1},
        {"id": 2, "when": None, "zip": "8", "tags": [], "mixed": "one"},
        {"id": 3, "mixed": 2.0, "late": True},
    )
    made = plan(job(prompt="{when}|{zip}|{tags}|{mixed}|{late}"), "r")
    assert prompts(made) == {
        "1": '2024-01-01T00:00:00Z|007|{"a":[1,"x"]}|1|',
        "2": "|8|[]|one|",
        "3": "|||2.0|true",
    }


def test_json_lines_of_exports_lose_no_character(home: Path) -> None:
    """Half an emoji is a question mark, other line separators are text, and an object is an id."""
    lines = [
        '{"id": {"$oid": "65a1"}, "text": "a \\ud83d"}',
        '{"id": {"$oid": "65a2"}, "text": "b\u2028c\u2029d\x85e"}',
        '{"id": ["x", 1], "text": "\\ud83d\\ude00 \\udc00"}',
    ]
    write_lines(home / "docs.jsonl", *lines)
    made = plan(job(), "r")
    assert prompts(made) == {
        '{"$oid":"65a1"}': "a ?",
        '{"$oid":"65a2"}': "b\u2028c\u2029d\x85e",
        '["x",1]': "\U0001f600 ?",
    }
    assert broken(made) == {}


def test_parquet_and_queries_keep_their_types(home: Path) -> None:
    """Dates, decimals, lists and structs are readable in a prompt."""
    duckdb.sql(
        "COPY (SELECT 1 AS id, DATE '2024-01-02' AS day, 1.10::DECIMAL(5, 2) AS price, [1, 2] AS list, "
        f"{{'a': 'x'}} AS struct) TO '{home / 'docs.parquet'}'"
    )
    prompt = "{day} {price} {list} {struct}"
    wanted = {"1": '2024-01-02 1.10 [1,2] {"a":"x"}'}
    assert prompts(plan(job(source="docs.parquet", prompt=prompt), "r1")) == wanted
    query = "SELECT * FROM 'docs.parquet' -- a comment\n;"
    assert prompts(plan(job(source=query, prompt=prompt), "r2")) == wanted


def test_values_of_every_type_are_readable_in_a_prompt(home: Path) -> None:
    """Nothing of a value is lost: no nanosecond, and no byte."""
    values = ", ".join(f'{value} AS "{column}"' for column, (value, _) in VALUES_OF_TYPES.items())
    duckdb.sql(f"COPY (SELECT 1 AS id, {values}) TO '{home / 'docs.parquet'}'")
    wanted = {"1": " | ".join(shown for _, shown in VALUES_OF_TYPES.values())}
    for run, source in enumerate(("docs.parquet", f"SELECT 1 AS id, {values}")):
        made = plan(job(source=source, prompt=" | ".join(f"{{{column}}}" for column in VALUES_OF_TYPES)), f"r{run}")
        assert prompts(made) == wanted
