"""Values of `partition_by` that a file system cannot store as names."""

from __future__ import annotations

import csv
from pathlib import Path
from urllib.parse import unquote

import duckdb
import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import plan
from batch_llm.jobs.sinks.folder_names import folder_names
from batch_llm.jobs.storage.duckdb_session import open_tables
from tests.support.jobs import job, whole_run, write_lines

LONG = "x" * 300
ODD = [
    *("", " ", ".", "..", "a/b", "a\0b", "a=b", "a\nb", "%2F", "\\", "A", "a", "é", "e\u0301", "NULL", "null", None),
    *("__HIVE_DEFAULT_PARTITION__", "~" * 400, "日本" * 100, "é" * 41, "é" * 42, "x" * 249, "x" * 250, LONG),
    *(f"{LONG}1", f"{LONG}2", "x~0123456789abcdef", "X~0123456789ABCDEF", "=" + LONG),
]


def _value(folder: Path) -> str:
    return unquote(folder.name.partition("=")[2])


@pytest.mark.sample(1)
@pytest.mark.parametrize("output", ["out.jsonl", "out.parquet", "out.csv.gz"])
def test_every_value_has_one_folder(home: Path, output: str) -> None:
    """For values of any length and any characters; its rows have the whole value."""
    rows = [{"id": f"{n}-{again}", "text": "t", "topic": value} for n, value in enumerate(ODD) for again in "ab"]
    write_lines(home / "docs.jsonl", *rows)
    assert whole_run("r1", output=output, partition_by=["topic"]).succeeded == len(rows)
    folders = list((home / output).iterdir())
    assert len(folders) == len(ODD)
    kind = output.split(".")[1].replace("jsonl", "json")
    found: dict[str, str | None] = {}
    for folder in folders:
        assert len(folder.name.encode()) <= 255
        columns = "id, coalesce(to_json(topic)->>'$', '')" if kind == "json" else "id, topic_in_full"
        files = ", all_varchar=true, nullstr='none'" if kind == "csv" else ""
        query = f"FROM read_{kind}('{folder}/*'{files}, hive_partitioning=false)"
        for item, whole in duckdb.sql(f"SELECT {columns} {query}").fetchall():
            found[item] = whole or _value(folder)
    null = "__HIVE_DEFAULT_PARTITION__"
    assert found == {row["id"]: null if row["topic"] is None else row["topic"] for row in rows}


def test_names_are_the_same_in_each_run(home: Path) -> None:
    """Ordinary values are their own folder names."""
    write_lines(home / "docs.jsonl", *({"id": n, "text": "t", "topic": topic} for n, topic in enumerate([LONG, "a"])))
    whole_run("r1", output="out.csv", partition_by=["topic"])
    names = {path.name for path in (home / "out.csv").iterdir()}
    write_lines(home / "docs.jsonl", *({"id": n, "text": "t", "topic": topic} for n, topic in enumerate(["b", LONG])))
    whole_run("r2", output="out.csv", partition_by=["topic"])
    again = {path.name for path in (home / "out.csv").iterdir()}
    assert (names - again, again - names) == ({"topic=a"}, {"topic=b"})


def test_many_long_columns_stay_within_the_longest_path(home: Path) -> None:
    """Twenty folders of 255 bytes each are more than a path may have."""
    columns = {f"c{n:02d}": "y" * 290 for n in range(20)}
    write_lines(home / "docs.jsonl", {"id": 1, "text": "t", **columns})
    assert whole_run("r1", output="out.parquet", partition_by=list(columns)).succeeded == 1
    (file,) = (path for path in (home / "out.parquet").rglob("*") if path.is_file())
    assert file.stat().st_size


def test_whole_value_is_escaped_in_a_csv_file(home: Path) -> None:
    """If the job escapes formulas."""
    write_lines(home / "docs.jsonl", {"id": 1, "text": "t", "topic": "=" + LONG})
    whole_run("r1", output="out.csv", partition_by=["topic"], csv_formulas="escape")
    (file,) = (home / "out.csv").glob("*/*.csv")
    (row,) = csv.DictReader(file.read_text().splitlines())
    assert row["topic_in_full"] == "'=" + LONG


def test_values_that_differ_in_case_have_different_folders() -> None:
    """Also on a file system that ignores case; other values keep their names."""
    with open_tables() as tables:
        tables.execute("CREATE TABLE rows AS SELECT unnest(['A', 'a', 'b', 'É', 'é']) AS topic")
        kinds, longest = {"topic": "VARCHAR"}, {"topic": 200}
        (made,) = folder_names(tables, "FROM rows", kinds, longest, ignores_case=True)
        labels = [str(label) for (label,) in tables.execute(f"SELECT {made.label} FROM rows").fetchall()]
        (plain,) = folder_names(tables, "FROM rows", kinds, longest, ignores_case=False)
    assert len({label.lower() for label in labels[:2]}) == 2
    assert [label[:2] for label in labels[:2]] == ["A~", "a~"]
    assert labels[2:] == ["b", "É", "é"]  # encoded, the last two differ in more than case
    assert not plain.shortened


def test_a_column_whose_name_is_too_long_is_refused_before_the_run(home: Path) -> None:
    """The error is raised before the first call."""
    column = "c" * 230
    write_lines(home / "docs.jsonl", {"id": 1, "text": "t", column: "x"})
    with pytest.raises(JobError, match=r"partition_by: the column 'c+' cannot name folders in .*: rename it"):
        plan(job(output="out.csv", partition_by=[column]), "r1")
