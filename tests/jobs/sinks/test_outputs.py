"""Outputs: compressed files and partitioned folders, written as a whole or not at all."""

from __future__ import annotations

import glob
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import check, plan
from batch_llm.jobs.sinks import OutputPlace, open_sink
from batch_llm.jobs.storage.duckdb_session import open_tables
from tests.support.jobs import VALUES_OF_TYPES, documents, job, prompts, read_lines, whole_run, write_lines


@pytest.mark.sample(1)
@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst", ".csv.gz", ".csv.zst"])
def test_compressed_outputs_are_written_and_can_be_sources(home: Path, ending: str) -> None:
    """The failures file, too."""
    documents(home, a="one", b="two")
    totals = whole_run("r1", output=f"out{ending}", fail="b")
    assert (totals.output, totals.failures) == (str(home / f"out{ending}"), str(home / f"out.failures{ending}"))
    assert prompts(plan(job(source=f"out{ending}", prompt="{answer}", name="again"), "r2")) == {"a": "answer to one"}
    assert prompts(plan(job(source=f"out.failures{ending}", name="more"), "r3")) == {"b": "two"}
    assert (home / f"out{ending}").read_bytes()[:2] == (b"\x1f\x8b" if ending.endswith(".gz") else b"\x28\xb5")


@pytest.mark.sample(1)
@pytest.mark.shell
@pytest.mark.parametrize("output", ["out.csv.gz", "out.parquet", "out.jsonl"])
def test_partitioned_output_is_a_folder_of_files(home: Path, output: str) -> None:
    """A later run replaces all parts of an earlier one; DuckDB reads the folder as one table."""
    write_lines(home / "docs.jsonl", *({"id": n, "text": str(n), "topic": topic} for n, topic in enumerate("aab")))
    whole_run("r1", output=output, partition_by=["topic", "status"], fail="2")
    assert {str(path.relative_to(home / output)) for path in (home / output).glob("*/*")} == {
        "topic=a/status=succeeded",
        "topic=b/status=failed",
    }
    write_lines(home / "docs.jsonl", {"id": 7, "text": "7", "topic": "c"}, {"id": 8, "text": "8", "topic": None})
    assert whole_run("r2", output=output, partition_by=["topic"]).output == str(home / output)
    kind = output.split(".")[1].replace("jsonl", "json")
    files = f"read_{kind}('{glob.escape(str(home / output))}/*/*.{output.partition('.')[2]}', hive_partitioning=true)"
    found = duckdb.sql(f"SELECT id, topic, answer FROM {files} ORDER BY ALL").fetchall()
    assert [(int(item), topic, said) for item, topic, said in found] == [
        (7, "c", "answer to 7"),
        (8, None, "answer to 8"),
    ]
    assert not [path for path in home.iterdir() if path.name.startswith(".out")]


@pytest.mark.parametrize("partition_by", [[], ["id"]])
def test_file_or_folder_is_unchanged_if_the_check_before_its_replacement_fails(
    home: Path, partition_by: list[str]
) -> None:
    """Another run took over the ledger: its rows may be in the output."""
    sink = open_sink(OutputPlace.parse("out.csv", partition_by))

    def lost() -> None:
        raise JobError("another run took over the ledger")

    with open_tables() as tables:
        sink.write(tables, ["SELECT 1 AS id, 'a' AS text"])
        before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
        with pytest.raises(JobError, match="took over the ledger"):
            sink.write(tables, ["SELECT 2 AS id, 'b' AS text"], lost)
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


def test_partitioned_output_keeps_its_modes_and_symbolic_link(home: Path) -> None:
    """A new folder and a new file get the mode of a folder and a file that exist."""
    (home / "real.csv").mkdir()
    (home / "out.csv").symlink_to("real.csv")
    sink = open_sink(OutputPlace.parse("out.csv", ["id"]))
    modes = {"real.csv": 0o710, "real.csv/id=1": 0o750, "real.csv/id=1/data_0.csv": 0o640}
    with open_tables() as tables:
        sink.write(tables, ["SELECT 1 AS id, 'a' AS text"])
        for name, mode in modes.items():
            (home / name).chmod(mode)
        sink.write(tables, ["SELECT unnest([1, 2]) AS id, 'b' AS text"])
    assert (home / "out.csv").is_symlink()
    modes |= {"real.csv/id=2": 0o750, "real.csv/id=2/data_0.csv": 0o640}
    real = home / "real.csv"
    assert {str(path.relative_to(home)): path.stat().st_mode & 0o777 for path in (real, *real.rglob("*"))} == modes


@pytest.mark.sample(1)
@pytest.mark.parametrize("output", ["out.csv", "out.parquet", "out.jsonl"])
def test_rows_with_different_columns_are_partitioned(home: Path, output: str) -> None:
    """A column may appear in later rows and have values of several types; text is the folder's name unchanged."""
    rows = [{"id": 1, "text": "a"}, {"id": 2, "text": "b", "line": "x"}, {"id": 3, "text": "c", "line": 7, "row": 1}]
    write_lines(home / "docs.jsonl", *rows, {"id": 4, "text": "d", "line": "x", "found": ["y"]})
    whole_run("r1", output=output, partition_by=["line", "line"])
    parts = {path.name: sorted(path.iterdir()) for path in (home / output).iterdir()}
    assert sorted(parts) == ["line=7", "line=__HIVE_DEFAULT_PARTITION__", "line=x"]
    kind = output.split(".")[1].replace("jsonl", "json")
    found = duckdb.sql(f"SELECT id, answer FROM read_{kind}('{parts['line=x'][0]}') ORDER BY id").fetchall()
    assert [(int(item), said) for item, said in found] == [(2, "answer to b"), (4, "answer to d")]
    if kind == "json":
        assert [row["found"] for row in read_lines(parts["line=x"][0])] == [None, ["y"]]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"output": "out.xlsx"}, "the file extension must be one of .jsonl, .parquet, .csv, .jsonl.gz, "),
        ({"output": "out.parquet.gz"}, "the file extension must be one of"),
        (
            {"partition_by": ["nope"]},
            "partition_by has 'nope', which is not in the output: it has id, text, answer, item_id, status",
        ),
        (
            {"partition_by": ["id"], "output": "s3://b/out.csv"},
            "partition_by writes a folder of files: set output to a local path",
        ),
        (
            {"partition_by": ["id"], "output": "sqlite:///a.db#t"},
            "partition_by writes a folder of files: set output to a local path",
        ),
        ({"partition_by": ["id"], "output": "file.csv"}, "is a file, and partition_by makes a folder"),
        (
            {"partition_by": ["id"], "output": "folder.csv"},
            "would be replaced, and has mine.txt in it: name a new folder",
        ),
        ({"output": "folder.csv"}, "is a folder: name a file in the folder"),
        ({"output": f"{'x' * 300}.csv"}, "x.csv cannot be written: File name too long"),
        # The file of the failures.
        ({"output": f"{'x' * 244}.csv"}, "x.failures.csv cannot be written: File name too long"),
    ],
)
def test_invalid_output_is_reported_before_the_first_call(home: Path, settings: dict[str, Any], line: str) -> None:
    """The error has the output, the reason and a fix; existing files are kept."""
    documents(home, a="one")
    (home / "file.csv").touch()
    (home / "folder.csv").mkdir()
    (home / "folder.csv" / "mine.txt").touch()
    with pytest.raises(JobError) as error:
        check(job(**settings))
    assert line in str(error.value)
    assert (home / "folder.csv" / "mine.txt").exists()


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    ("source", "output", "line"),
    [
        ("docs.jsonl", "docs.jsonl", "output docs.jsonl is in the source, and would replace it"),
        ("docs.jsonl", "sub/../docs.jsonl", "is in the source"),
        ("link.jsonl", "docs.jsonl", "is in the source"),
        ("*.jsonl", "out.jsonl", "output out.jsonl is in the source"),
        ("**/*.jsonl", "out.jsonl", "is in the source"),
        ("parts.csv/*/*.csv", "parts.csv/topic=a/data_0.csv", "is in the source"),
        ("parts.csv/*/*.csv", "parts.csv", "is in the source"),
        ("docs.failures.jsonl", "docs.jsonl", "contains docs.failures.jsonl, which is the failures file of"),
        ("docs.partial.jsonl", "docs.jsonl", "contains docs.partial.jsonl, which an incomplete run with this output"),
        ("docs.partial.failures.jsonl", "docs.jsonl", "contains docs.partial.failures.jsonl, which an incomplete run"),
        ("*.partial.jsonl", "docs.jsonl", "contains docs.partial.jsonl, which"),
        ("parts.partial.csv/*/*.csv", "parts.csv", "contains parts.partial.csv, which"),
        ("sqlite:///a.db#docs_PARTIAL", "sqlite:///a.db#docs", "contains sqlite:///a.db#docs_partial, which"),
        ("sqlite:///a.db#docs_partial_failures", "sqlite:///a.db#docs", "docs_partial_failures, which"),
        ("sqlite:///a.db#docs", "sqlite:///a.db#Docs", "is in the source"),
        ("sqlite:///a.db#docs_failures", "sqlite:///a.db#docs", "is the failures file of this output"),
    ],
)
def test_output_that_is_a_source_is_refused(home: Path, source: str, output: str, line: str) -> None:
    """With a limit, or a line that cannot be read, the output has fewer rows than the source."""
    documents(home, a="one")
    names = ("docs.failures.jsonl", "docs.partial.jsonl", "docs.partial.failures.jsonl")
    for made in (*names, "parts.csv/topic=a/data_0.csv", "parts.partial.csv/topic=a/data_0.csv"):
        (home / made).parent.mkdir(parents=True, exist_ok=True)
        (home / made).write_text('{"id": "a", "text": "one"}\n' if made.endswith(".jsonl") else "id,text\na,one\n")
    (home / "link.jsonl").symlink_to("docs.jsonl")
    with sqlite3.connect(home / "a.db") as database:
        for table in ("docs", "docs_failures", "docs_partial", "docs_partial_failures"):
            database.execute(f"CREATE TABLE {table} AS SELECT 1 AS id, 'one' AS text")
    database.close()
    with pytest.raises(JobError, match=re.escape(line)):
        plan(job(source=source, output=output), "r")
    assert len((home / "docs.jsonl").read_text().splitlines()) == 1


@pytest.mark.shell
def test_output_may_be_in_the_folder_of_the_source(home: Path) -> None:
    """Also if its name matches a pattern in another folder."""
    documents(home, a="one")
    (home / "in").mkdir()
    (home / "docs.jsonl").rename(home / "in/docs.jsonl")
    for source, output in (
        ("in/*.jsonl", "in/sub/out.jsonl"),
        ("in/*.jsonl", "in/out.csv"),
        ("in/docs.jsonl", "o.jsonl"),
    ):
        assert plan(job(source=source, output=output), "r").total == 1


@pytest.mark.parametrize(
    "output", ["out.jsonl", "out.csv", "out.parquet", "sqlite:///out.db#t", "duckdb:///out.duckdb#t"]
)
def test_values_of_every_type_are_in_every_output(home: Path, output: str) -> None:
    """Bytes are bytes where the format has them, and the other types are readable text in text formats."""
    values = ", ".join(f'{value} AS "{column}"' for column, (value, _) in VALUES_OF_TYPES.items())
    whole_run("r", source=f"SELECT 1 AS id, 'a' AS text, {values}", output=output)
    columns = ", ".join(f'"{column}"' for column in VALUES_OF_TYPES)
    if output.startswith("sqlite"):
        with closing(sqlite3.connect(home / "out.db")) as database:
            found = database.execute(f"SELECT {columns} FROM t").fetchall()
        assert found == [tuple(b"\xaa\x00b" if key == "blob" else shown for key, (_, shown) in VALUES_OF_TYPES.items())]
        return
    with duckdb.connect(str(home / "out.duckdb")) as tables:
        texts = ", ".join(f'"{column}"::VARCHAR' for column in VALUES_OF_TYPES)
        place = "t" if output.startswith("duckdb") else f"'{home / output}'"
        if output.endswith((".jsonl", ".csv")):
            place = f"read_{'json' if output.endswith('l') else 'csv'}({place}, {ALL_TEXT[output]})"
        found = tables.execute(f"SELECT {texts} FROM {place}").fetchall()
    assert found == [tuple(shown for _, shown in VALUES_OF_TYPES.values())]


ALL_TEXT = {
    "out.jsonl": f"columns={dict.fromkeys(VALUES_OF_TYPES, 'VARCHAR')}",
    "out.csv": "all_varchar=true",
}


@pytest.mark.sample(1)
@pytest.mark.parametrize("partition_by", [[], ["kind"]])
def test_infinity_and_nan_are_null_in_json(home: Path, partition_by: list[str]) -> None:
    """Every line is valid JSON, also if the source has infinity or NaN."""
    numbers = "[1.5, 'nan'::DOUBLE, 'inf'::DOUBLE, '-inf'::DOUBLE]"
    source = f"SELECT 'k' AS kind, generate_subscripts({numbers}, 1) AS id, unnest({numbers}) AS n, n::FLOAT AS text"
    output = Path(whole_run("r1", source=source, partition_by=partition_by).output)
    (file,) = output.glob("*/*") if partition_by else [output]
    rows = [json.loads(line, parse_constant=pytest.fail) for line in file.read_text().splitlines()]
    assert [(row["n"], row["text"]) for row in rows] == [(1.5, 1.5), (None, None), (None, None), (None, None)]


def test_infinity_and_nan_are_null_in_nested_values(home: Path) -> None:
    """In lists, arrays, structs, maps and unions; other values and nulls are kept."""
    columns = {
        "list": "[1.5, 'nan'::DOUBLE, NULL]",
        "lists": "[['inf'::FLOAT], NULL]",
        "array": "[1::DOUBLE, '-inf'::DOUBLE]::DOUBLE[2]",
        "struct": "{'n': 'nan'::DOUBLE, 'DOUBLE': {'of a': ['nan'::FLOAT], 't': 'NaN'}}",
        "map": "MAP {'a': {'n': 'inf'::DOUBLE}, 'b': NULL}",
        "union": "[union_value(n := 'nan'::DOUBLE)::UNION(n DOUBLE, \"t a\" VARCHAR), union_value(\"t a\" := 'NaN')]",
    }
    values = ", ".join(f'{value} AS "{column}"' for column, value in columns.items())
    nulls = ", ".join("NULL" for _ in columns)
    source = f"SELECT 1 AS id, 'a' AS text, {values} UNION ALL SELECT 2, 'b', {nulls} ORDER BY id"
    lines = Path(whole_run("r1", source=source).output).read_text().splitlines()
    first, second = ({c: json.loads(line, parse_constant=pytest.fail)[c] for c in columns} for line in lines)
    assert first == {
        "list": [1.5, None, None],
        "lists": [[None], None],
        "array": [1, None],
        "struct": {"n": None, "DOUBLE": {"of a": [None], "t": "NaN"}},
        "map": {"a": {"n": None}, "b": None},
        "union": [{"n": None}, {"t a": "NaN"}],
    }
    assert second == dict.fromkeys(columns)
