"""Very large documents, lines and tables take time, but hardly more memory."""

from __future__ import annotations

import csv
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from batch_llm.jobs import Summary, plan
from tests.support.jobs import broken, items, job, prompts, read_lines, whole_run, write_lines

MB = 1024**2


@pytest.mark.whole
def test_large_documents_are_never_all_in_memory() -> None:
    """Measured in a separate process, from the source to the totals; pandas, which is slow to import, is not needed."""
    command = [sys.executable, "-m", "tests.support.large_documents"]
    root = Path(__file__).parents[3]
    found = json.loads(subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout)
    assert found["prompts"] == found["attempts"] == found["answered"] == found["documents"] == 200
    assert found["grown"] < 400 * MB  # two copies of them all
    assert not found["pandas"]


@pytest.mark.sample(1)
@pytest.mark.parametrize("megabytes", [3, pytest.param(50, marks=pytest.mark.whole)])
@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "txt"])
def test_line_of_many_megabytes_is_read(home: Path, ending: str, megabytes: int) -> None:
    """In any format, and in the output, too: by default DuckDB reads 2 MB of CSV and 16 MB of JSON."""
    long = "word " * (megabytes * MB // 5)
    rows = [{"id": "short", "text": "a"}, {"id": "long", "text": long}]
    source = _write(home, ending, rows)
    whole_run("r", source=source, output=f"out.{ending if ending != 'txt' else 'jsonl'}", prompt="{id}")
    with duckdb.connect() as tables:
        reader = f"read_csv('{home}/out.csv', max_line_size={64 * MB}, buffer_size={64 * MB}, delim=',', quote='\"')"
        out = {"csv": reader, "parquet": f"'{home}/out.parquet'"}.get(
            ending, f"read_json('{home}/out.jsonl', maximum_object_size={64 * MB})"
        )
        found = tables.execute(f"SELECT length(text), status FROM {out} ORDER BY 1").fetchall()
    assert found == [(1, "succeeded"), (len(long), "succeeded")]


def test_line_that_is_too_long_fails_only_its_row(home: Path) -> None:
    """The error has the number of the line."""
    with (home / "docs.jsonl").open("w") as file:
        file.write('{"id": 1, "text": "a"}\n{"id": 2, "text": "' + "b" * 65 * MB + '"}\n{"id": 3, "text": "c"}\n')
    made = plan(job(), "r")
    assert prompts(made) == {"1": "a", "3": "c"}
    assert broken(made) == {"line 2": "line 2 is longer than 64 MB"}


@pytest.mark.whole
@pytest.mark.parametrize(
    "ending", ["jsonl", *(pytest.param(each, marks=pytest.mark.whole) for each in ("csv", "parquet"))]
)
def test_table_of_2000_columns_is_written(home: Path, ending: str) -> None:
    """Each column is in the output, in the same position."""
    rows = [{"id": f"{row}", **{f"c{column}": f"{row} {column}" for column in range(1999)}} for row in range(3)]
    whole_run("r", source=_write(home, ending, rows), output="out.jsonl", prompt="{c0}|{c1998}", fail="1")
    for before, after in zip(rows, read_lines(home / "out.jsonl"), strict=True):
        assert {column: after[column] for column in before} == before
        assert after["answer"] == (None if after["id"] == "1" else f"answer to {before['c0']}|{before['c1998']}")


@pytest.mark.whole
def test_parquet_file_with_large_row_groups_is_read(home: Path) -> None:
    """DuckDB reads 2048 documents of a row group at once, which need more memory than its limit."""
    with duckdb.connect() as tables:
        documents = "SELECT i AS id, repeat(md5(i::VARCHAR), 32768) AS text FROM range(300) AS made(i)"
        tables.execute(f"COPY ({documents}) TO '{home}/docs.parquet' (FORMAT parquet)")
    made = plan(job(source="docs.parquet"), "r")
    assert [item["characters"] for item in items(made)] == [MB] * 300


@pytest.mark.whole
@pytest.mark.parametrize(
    "output",
    [
        "out.jsonl",
        "sqlite:///out.db#t",
        "in parts",
        *(pytest.param(each, marks=pytest.mark.whole) for each in ("out.csv", "out.csv.gz", "out.parquet")),
        pytest.param("out.jsonl.zst", marks=pytest.mark.whole),
    ],
)
def test_output_is_the_same_however_many_parts_it_is_made_from(
    home: Path, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows, failures and types of columns are the same."""
    rows = [
        {"id": n, "text": f"text {n}", "topic": f"t{n % 2}", "more": [n], "mixed": n if n % 3 else "n"}
        for n in range(9000)
    ]
    write_lines(home / "docs.jsonl", *rows, "no JSON")
    settings: dict[str, Any] = {"output": output.replace("out.db", f"{home}/out.db")}
    if output == "in parts":
        settings = {"output": "out.csv", "partition_by": ["topic"]}
    whole = _read(whole_run("whole", name="whole", fail="4", **settings))
    files = len(list(home.glob("out.csv/topic=t0/*")))
    monkeypatch.setattr("batch_llm.jobs.storage.position_ranges.RANGE_BYTES", 1)
    assert _read(whole_run("parts", name="parts", fail="4", **settings)) == whole
    assert [len(table) for table in whole] == [1 + 9001, 1 + 2]
    if output == "in parts":
        assert len(list(home.glob("out.csv/topic=t0/*"))) == files


def test_answers_of_two_runs_are_gathered_a_few_files_at_a_time(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second run reuses the answers of the first, and the intermediate files are deleted."""
    monkeypatch.setattr("batch_llm.jobs.ledger.record_lookup.BATCH_BYTES", 1)
    write_lines(home / "docs.jsonl", *({"id": f"{n}", "text": f"text {n}"} for n in range(20)))
    settings: dict[str, Any] = {"output": "out.jsonl", "shard_size": 3}
    first = whole_run("first", fail="7", **settings)
    second = whole_run("second", **settings)
    assert (first.succeeded, first.failed) == (19, 1)
    assert (second.succeeded, second.reused, second.retried) == (20, 19, 1)
    assert [row["answer"] for row in read_lines(home / "out.jsonl")] == [f"answer to text {n}" for n in range(20)]
    assert not list(home.rglob("gathered"))


def _read(totals: Summary) -> list[list[tuple[Any, ...]]]:
    """Return columns with types and rows of an output, then those of the failures."""
    assert totals.failures is not None
    return [_table(totals.output), _table(totals.failures)]


def _table(place: str) -> list[tuple[Any, ...]]:
    database, _, table = place.removeprefix("sqlite:///").partition("#")
    with closing(sqlite3.connect(database) if table else duckdb.connect()) as tables:
        files = f"'{place}/*/*.csv'" if Path(place).is_dir() else f"'{place}'"
        found: Any = tables.execute(f"SELECT * FROM {table or files}")
        rows = found.fetchall()
        return [tuple(map(str, found.description)), *(rows if Path(place).is_file() else sorted(rows, key=repr))]


def _write(home: Path, ending: str, rows: list[dict[str, str]]) -> str:
    """Write rows as a source with this file ending, and return it."""
    if ending == "txt":
        (home / "texts").mkdir()
        for row in rows:
            (home / "texts" / f"{row['id']}.txt").write_text(row["text"])
        return "texts"
    path = home / f"docs.{ending}"
    if ending == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return path.name
    lines = write_lines(home / "docs.jsonl", *rows)
    if ending == "parquet":
        types = ", ".join(f"'{column}': 'VARCHAR'" for column in rows[0])
        read = f"read_json('{lines}', columns={{{types}}}, maximum_object_size={64 * MB})"
        duckdb.execute(f"COPY (FROM {read}) TO '{path}' (FORMAT parquet)")
    return path.name
