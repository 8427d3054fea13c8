"""Rows from Python instead of a source."""

from __future__ import annotations

import datetime
import tracemalloc
from collections import UserDict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import plan, with_items
from tests.support.jobs import job, prompts

DAY = datetime.date(2024, 1, 2)
COLUMNS: dict[str, list[Any]] = {"id": [1, 2], "text": ["a", None], "list": [[1, 2], []], "day": [DAY, None]}


@pytest.mark.sample(2)
@pytest.mark.parametrize("kind", ["polars", "pandas", "duckdb", "dicts", "generator"])
def test_tables_and_rows_of_any_type_are_accepted(home: Path, kind: str) -> None:
    """No package is imported that the rows themselves do not need."""
    table = pl.DataFrame(COLUMNS)
    items: Any = {
        "polars": lambda: table,
        "pandas": lambda: pd.DataFrame(COLUMNS),
        "duckdb": lambda: duckdb.sql(
            "SELECT 1 AS id, 'a' AS text, [1, 2] AS list, DATE '2024-01-02' AS day UNION ALL SELECT 2, NULL, [], NULL"
        ),
        "dicts": table.to_dicts,
        "generator": table.iter_rows(named=True).__iter__,
    }[kind]()
    made = plan(with_items(job(prompt="{text}|{list}|{day}"), items, "r"), "r")
    assert prompts(made) == {"1": "a|[1,2]|2024-01-02", "2": "|[]|"}


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([{"a": 1}, {"b": "two"}], ['{"a":1}', '{"b":"two"}']),
        ([{"a": 1}, {"a": "x"}], ['{"a":1}', '{"a":"x"}']),
        ([{"a": {"b": 1}}, {"a": {"c": [1.5]}}], ['{"a":{"b":1}}', '{"a":{"c":[1.5]}}']),
        ([[1, "x"], [2]], ['[1,"x"]', "[2]"]),
        ([{"a": 1}, "text"], ['{"a":1}', "text"]),
        ([{"a": 1}, None], ['{"a":1}', ""]),
        ([[1], float("nan")], ["[1]", ""]),
        ([[], ["urgent"]], ["[]", '["urgent"]']),
        ([DAY, DAY], ["2024-01-02", "2024-01-02"]),
        ([1, "two"], ["1", "two"]),
    ],
)
def test_objects_of_pandas_keep_their_values(home: Path, values: list[Any], shown: list[str]) -> None:
    """Also if the first thousand rows have other types."""
    many = [*[values[0]] * 1500, values[1]]
    frame = pd.DataFrame({"id": range(len(many)), "x": pd.Series(many, dtype=object)})
    made = prompts(plan(with_items(job(prompt="<{x}>"), frame, "r"), "r"))
    assert [made["0"], made["1500"]] == [f"<{text}>" for text in shown]


def test_values_without_a_json_type_become_text(home: Path) -> None:
    """Any mapping of columns to values is a row."""
    values = {"price": Decimal("1.10"), "at": datetime.datetime(2024, 1, 2, 3), "code": b"\xff", "none": float("nan")}
    rows = [UserDict({"id": 1, **values})]
    made = plan(with_items(job(prompt="{price}|{at}|{code}|{none}"), rows, "r"), "r")
    assert prompts(made) == {"1": "1.10|2024-01-02T03:00:00|ff|"}


def test_a_generator_is_never_held_in_memory(home: Path) -> None:
    """20 MB of rows need less than 5 MB."""

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(200):
            yield {"id": number, "text": "x" * 100_000}

    tracemalloc.start()
    try:
        with_items(job(), rows(), "r")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("items", "line"),
    [
        ({"id": 1}, "items is a dict: pass rows, such as"),
        ("docs.csv", "items is a str: pass rows, such as"),
        (None, "items is a NoneType: pass rows, such as"),
        ([{"text": "a"}, "b"], "items: number 2 is a str; it must map columns to values"),
    ],
)
def test_invalid_rows_are_reported_in_one_line(home: Path, items: Any, line: str) -> None:
    """The error names the invalid row."""
    with pytest.raises(JobError) as error:
        with_items(job(), items, "r")
    assert str(error.value).startswith(line)
