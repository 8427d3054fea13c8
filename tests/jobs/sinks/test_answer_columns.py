"""Types of the answer's columns, for all forms of JSON Schema that pydantic writes."""

from __future__ import annotations

import csv
import datetime
import json
import sqlite3
import uuid
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import duckdb
import pytest
from pydantic import BaseModel, Field

from batch_llm.errors import JobError
from batch_llm.jobs import merge, plan
from batch_llm.jobs.ledger.records import LedgerWriter, Record
from batch_llm.jobs.schemas import answer_columns
from batch_llm.jobs.storage.store import Store
from tests.support.jobs import documents, job, read_lines


class Mood(StrEnum):
    """Enum, which the schema defines by reference."""

    good = "good"
    bad = "bad"


class Node(BaseModel):
    """Recursive model."""

    name: str
    child: Node | None = None


class Cat(BaseModel):
    """First member of a union."""

    kind: Literal["cat"]


class Dog(BaseModel):
    """Second member of a union."""

    kind: Literal["dog"]


class Letter(BaseModel):
    """Model with most kinds of annotations."""

    city: str | None
    mood: Mood
    may_be: Mood | None = Field(None, description="A reference with words beside it.")
    size: int | None
    share: float | None
    always: Literal["a"]
    flag: Literal[True]
    mixed: int | str
    price: Decimal | None
    when: datetime.datetime
    name: uuid.UUID
    day: datetime.date | None
    raw: bytes
    tags: list[str] | None
    pair: tuple[int, str]
    counts: dict[str, int]
    node: Node | None
    pet: Cat | Dog = Field(discriminator="kind")
    first_name: int = Field(alias="first-name/x")
    nothing: None


def test_columns_of_a_pydantic_model() -> None:
    """Text and numbers keep their types, also with null; containers are JSON; mixed types are text."""
    schema = Letter.model_json_schema()
    found = answer_columns(schema, typed=False)
    text = ("city", "mood", "may_be", "always", "mixed", "price", "when", "name", "day", "raw", "nothing")
    assert {name for name, kind in found.items() if kind == "VARCHAR"} == set(text)
    assert {name for name, kind in found.items() if kind == "BIGINT"} == {"size", "first-name/x"}
    assert (found["share"], found["flag"]) == ("DOUBLE", "BOOLEAN")
    assert {name for name, kind in found.items() if kind == "JSON"} == {"tags", "pair", "counts", "node", "pet"}
    assert {name for name, kind in answer_columns(schema).items() if kind != found[name]} == {"mixed", "price"}
    assert answer_columns(Node.model_json_schema()) == {"name": "VARCHAR", "child": "JSON"}


def _merged(output: str, schema: dict[str, Any], **answers: Any) -> str:
    todo = job(output=output, output_schema=schema, name=f"n{abs(hash(output))}")
    made = plan(todo, "r")
    with LedgerWriter(Store(made.folder), made.shards[0].part) as ledger:
        for item in read_lines(made.shards[0].path):
            ledger.append(Record(item["id"], item["key"], "succeeded", answers[item["id"]], attempts=1))
    return merge(todo, made).output


def test_text_has_no_quotes_and_null_is_null_in_every_output(home: Path) -> None:
    """In every output format."""
    documents(home, a="one", b="two")
    reference = {"$ref": "#/$defs/Mood"}
    properties = {
        "city": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "mood": {"allOf": [reference]},
        "size": {"oneOf": [{"type": "null"}, {"type": "integer"}]},
        "mixed": {"anyOf": [{"enum": ["x", 3]}, {"const": None}]},
        "tags": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
        "free": {},
        "several": {"type": ["string", "object"]},
    }
    schema = {"type": "object", "$defs": {"Mood": {"enum": ["good", "bad"]}}, "properties": properties}
    full = {"city": "Bonn", "mood": "bad", "size": 3, "mixed": "x", "tags": ["t"], "free": "abc", "several": "5"}
    empty: dict[str, Any] = {"city": None, "mood": "good", "size": None, "mixed": None, "tags": None, "free": ["x"]}
    empty["several"] = {"a": "b"}
    _merged("out.parquet", schema, a=full, b=empty)
    _merged("sqlite:///o.db#t", schema, a=full, b=empty)
    _merged("duckdb:///o.duckdb#t", schema, a=full, b=empty)
    query = "SELECT city, mood, size, mixed, tags, free, several FROM {} ORDER BY id"
    rows = [("Bonn", "bad", 3, "x", '["t"]', "abc", "5"), (None, "good", None, None, None, '["x"]', '{"a":"b"}')]
    assert duckdb.sql(query.format(f"'{home / 'out.parquet'}'")).fetchall() == rows
    assert sqlite3.connect(home / "o.db").execute(query.format("t")).fetchall() == rows
    with duckdb.connect(home / "o.duckdb") as database:
        assert database.execute(query.format("t")).fetchall() == rows
    with Path(_merged("out.csv", schema, a=full, b=empty)).open(encoding="utf-8", newline="") as file:
        cells = [[row[name] for name in properties] for row in csv.DictReader(file)]
    assert cells == [["Bonn", "bad", "3", "x", '["t"]', "abc", "5"], ["", "good", "", "", "", '["x"]', '{"a":"b"}']]
    lines = read_lines(_merged("out.jsonl", schema, a=full, b=empty | {"mixed": 3}))
    assert [{name: line[name] for name in properties} for line in lines] == [full, empty | {"mixed": 3}]


@pytest.mark.sample(1)
@pytest.mark.parametrize("output", ["out.jsonl", "out.csv", "out.parquet", "sqlite:///o.db#t", "duckdb:///o.duckdb#t"])
def test_any_property_names_can_be_written(home: Path, output: str) -> None:
    """Empty names, names that differ in case, outcome columns, and names with a meaning in SQL or JSON pointers."""
    documents(home, a="one")
    names = [
        "",
        "a",
        "A",
        "status",
        "Finish_Reason",
        "answer_",
        "a/b",
        "a~b",
        "*",
        "$",
        'q"q',
        "\n",
        "position",
        "é" * 70,
    ]
    answer = {name: f"value {number}" for number, name in enumerate(names)}
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    written = _merged(output, schema, a=answer)
    if output == "out.jsonl":
        assert set(answer.values()) <= set(map(str, json.loads(Path(written).read_text()).values()))


def test_property_name_that_cannot_be_written_is_refused_before_the_run(home: Path) -> None:
    """The error is one line."""
    with pytest.raises(JobError, match="the name of a property contains a NUL character"):
        job(output_schema={"type": "object", "properties": {"a\0b": {"type": "string"}}})


def test_table_of_an_earlier_version_gets_the_new_columns(home: Path) -> None:
    """Its JSON columns stay JSON and accept text."""
    documents(home, a="one")
    schema = {"type": "object", "properties": {"city": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}
    _merged("duckdb:///o.duckdb#t", schema, a={"city": "Bonn"})
    with duckdb.connect(home / "o.duckdb") as database:
        database.execute("ALTER TABLE t DROP finish_reason; ALTER TABLE t DROP call_seconds")
        database.execute("ALTER TABLE t ALTER city TYPE JSON USING to_json(city)")
    made = plan(job(output="duckdb:///o.duckdb#t", output_schema=schema, name="again"), "r")
    todo = job(output="duckdb:///o.duckdb#t", output_schema=schema, name="again")
    with LedgerWriter(Store(made.folder), made.shards[0].part) as ledger:
        for item in read_lines(made.shards[0].path):
            ledger.append(
                Record(item["id"], item["key"], "succeeded", {"city": "Köln"}, finish_reason="stop", call_seconds=0.5)
            )
    merge(todo, made)
    with duckdb.connect(home / "o.duckdb") as database:
        assert database.execute("SELECT city, finish_reason, call_seconds FROM t").fetchall() == [
            ('"Köln"', "stop", 0.5)
        ]
