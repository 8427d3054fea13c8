"""Tables in SQLite, DuckDB and PostgreSQL as sources and outputs."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import asyncpg  # pyright: ignore[reportMissingTypeStubs]  has none
import duckdb
import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import Summary, check, merge, plan
from batch_llm.jobs.sinks import OutputPlace, open_sink
from batch_llm.jobs.storage.duckdb_session import open_tables
from tests.support.databases import Database, run_on_postgres
from tests.support.jobs import answer, broken, job, prompts, write_lines
from tests.support.postgres import missing, postgres

LETTERS = "CREATE TABLE letters (id INTEGER, body TEXT); INSERT INTO letters VALUES (1, 'a'), (2, 'b'), (3, NULL)"


@pytest.fixture(scope="module")
def server() -> Generator[str]:
    """Start a PostgreSQL server for the tests of this file."""
    if why := missing():
        pytest.skip(why)
    with tempfile.TemporaryDirectory() as folder, postgres(Path(folder)) as url:
        yield url.replace("+asyncpg", "")


@pytest.fixture
def postgresql(server: str, home: Path) -> Database:
    """Return a new database in PostgreSQL."""
    name = f"own_{home.name.translate(str.maketrans('[]-', '___'))}"
    asyncio.run(run_on_postgres(server, f"DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name}"))
    url = server.replace("/postgres", f"/{name}")
    return Database("postgresql", url, url)


@pytest.fixture(params=["sqlite", "duckdb", "postgresql"])
def database(request: pytest.FixtureRequest, home: Path) -> Database:
    """Return a new database of each kind."""
    kind = str(request.param)
    if kind == "postgresql":
        return request.getfixturevalue(kind)
    return Database(kind, f"{kind}:///own.db", str(home / "own.db"))


def run_job(run: str, *, fail: str = "", **settings: Any) -> Summary:
    """Run a job to its end."""
    todo = job(prompt="{body}", **settings)
    made = plan(todo, run)
    answer(todo, made, fail=fail)
    return merge(todo, made)


@pytest.mark.sample(1)
def test_a_table_and_a_query_are_sources(database: Database) -> None:
    """A query runs in the database; a null is empty."""
    database.run(LETTERS)
    made = plan(job(source=f"{database.place}#letters", prompt="{body}"), "r1")
    assert prompts(made) == {"1": "a", "2": "b"}
    assert broken(made) == {"3": "the prompt of 3 is empty"}
    query = "select id, upper(body) as body from letters where id < 3 order by id desc; "
    assert list(prompts(plan(job(source=f"{database.place}#{query}", prompt="{body}"), "r2")).items()) == [
        ("2", "B"),
        ("1", "A"),
    ]
    assert prompts(plan(job(source=f"{database.place}#letters", prompt="{body}", limit=1), "r3")) == {"1": "a"}


def test_table_is_unchanged_if_the_check_before_its_replacement_fails(database: Database) -> None:
    """Another run took over the ledger: its rows may be in the table."""
    sink = open_sink(OutputPlace.parse(f"{database.place}#answers"))

    def lost() -> None:
        raise JobError("another run took over the ledger")

    with open_tables() as tables:
        sink.write(tables, ["SELECT 1 AS id"])
        with pytest.raises(JobError, match="took over the ledger"):
            sink.write(tables, ["SELECT 2 AS id", "SELECT 3 AS id"], lost)
        assert database.run("SELECT id FROM answers") == [(1,)]
        sink.write(tables, ["SELECT 2 AS id"])
    assert database.run("SELECT id FROM answers") == [(2,)], "no lock is left"


def test_a_query_of_postgresql_only_reads(postgresql: Database) -> None:
    """Also if it calls a function that writes."""
    writes = "CREATE FUNCTION taken() RETURNS SETOF letters LANGUAGE sql AS 'DELETE FROM letters RETURNING *'"
    postgresql.run(f"{LETTERS}; {writes}")
    for query in ("with a as (delete from letters returning *) select * from a", "select * from taken()"):
        with pytest.raises(JobError, match=r"cannot execute (SELECT|DELETE) in a read-only transaction") as error:
            plan(job(source=f"{postgresql.place}#{query}", prompt="{body}"), "r1")
        assert "\n" not in str(error.value)
    assert postgresql.run("SELECT count(*) FROM letters") == [(3,)]


def test_answers_go_into_a_table_and_failures_into_another(database: Database) -> None:
    """The failures are a source themselves; a run without failures deletes them."""
    database.run(LETTERS)
    places: dict[str, Any] = {"output": f"{database.place}#answers", "name": "letters"}
    totals = run_job("r1", source=f"{database.place}#letters", fail="2", **places)
    assert (totals.output, totals.failures) == (places["output"], f"{database.place}#answers_failures")
    assert database.run("SELECT id, answer, status, attempts, cost_usd FROM answers ORDER BY id") == [
        (1, "answer to a", "succeeded", 1, 0.5),
        (2, None, "failed", 1, 0.5),
        (3, None, "failed", 0, 0),
    ]
    assert database.run("SELECT id, error_category FROM answers_failures ORDER BY id") == [
        (2, "timeout"),
        (3, "invalid_input"),
    ]
    database.run("DELETE FROM letters WHERE id = 3")
    run_job("r2", source=f"{totals.failures}", output="some.jsonl", name="letters")
    assert run_job("r3", source=f"{database.place}#letters", **places).failures is None
    assert database.run("SELECT id, status FROM answers ORDER BY id") == [(1, "succeeded"), (2, "succeeded")]
    with pytest.raises((sqlite3.Error, duckdb.Error, asyncpg.PostgresError)):
        database.run("SELECT * FROM answers_failures")


@pytest.mark.sample(1)
def test_existing_table_keeps_its_views_columns_and_types(database: Database, home: Path) -> None:
    """Its views, extra columns and types are kept."""
    write_lines(home / "docs.jsonl", {"id": 1, "body": 'a\0b,\n"c"', "tags": ["x"], "none": None, "empty": ""})
    settings: dict[str, Any] = {"source": "docs.jsonl", "output": f"{database.place}#answers"}
    database.run(
        "CREATE TABLE answers (made TIMESTAMP DEFAULT CURRENT_TIMESTAMP, id INTEGER, item_id TEXT, body TEXT, "
        "tags JSON, none DATE, empty TEXT, answer TEXT, status TEXT, input_tokens BIGINT, output_tokens BIGINT, "
        "cost_usd FLOAT, attempts INTEGER, seconds FLOAT, error_category TEXT, error TEXT); "
        "INSERT INTO answers (id) VALUES (7); CREATE VIEW short AS SELECT id, answer FROM answers"
    )
    run_job("r", **settings)
    nul = "" if database.kind == "postgresql" else "\0"
    assert database.run("SELECT id, answer FROM short") == [(1, f'answer to a{nul}b,\n"c"')]
    [(made, tags, none, empty)] = database.run("SELECT made, tags, none, empty FROM answers")
    assert made is not None
    assert (tags, none, empty) == ('["x"]', None, "")


@pytest.mark.sample(1)
def test_large_integers_and_lists_with_nan_are_written(database: Database) -> None:
    """Integers beyond signed 64 bits, and lists with NaN, which are JSON if the database has no lists."""
    query = "SELECT 1 AS id, 'a' AS body, 18446744073709551615::UBIGINT AS large, [1.5, 'nan'::DOUBLE] AS list"
    run_job("r", source=query, output=f"{database.place}#answers")
    [(large, found)] = database.run("SELECT large, list FROM answers")
    assert int(large) == 18446744073709551615
    assert database.kind == "duckdb" or json.loads(found, parse_constant=pytest.fail) == [1.5, None]


@pytest.mark.sample(1)
@pytest.mark.parametrize("table", ["answers", "answers_failures"])
def test_table_with_other_columns_is_reported_before_the_first_call(database: Database, table: str) -> None:
    """The line has the place and a fix; existing rows are kept, also if they were added during the run."""
    database.run(LETTERS)
    # With the default, a run that is incomplete leaves a table alone that is there.
    places = {"source": f"{database.place}#letters", "output": f"{database.place}#answers"}
    todo = job(**places, prompt="{body}", publish="always")
    made = plan(todo, "r")
    answer(todo, made, fail="2")
    database.run(f"CREATE TABLE {table} (id INTEGER); INSERT INTO {table} VALUES (7)")
    tries: list[Callable[[], object]] = [lambda: check(todo), lambda: merge(todo, made)]
    for refused in tries:
        with pytest.raises(JobError) as error:
            refused()
        line = str(error.value)
        assert line.startswith(
            f"output '{database.place}#{table}' cannot be written; if its columns should change, drop the table"
        )
        assert "\n" not in line
        assert database.run(f"SELECT id FROM {table}") == [(7,)]


@pytest.mark.sample(1)
def test_column_that_only_later_rows_have_is_reported_before_the_first_call(database: Database, home: Path) -> None:
    """The columns are known after all rows have been read."""
    write_lines(home / "docs.jsonl", {"id": 1, "body": "a"}, {"id": 2, "body": "b"})
    settings: dict[str, Any] = {"source": "docs.jsonl", "output": f"{database.place}#answers"}
    run_job("r1", **settings)
    write_lines(home / "docs.jsonl", {"id": 1, "body": "a"}, {"id": 2, "body": "b", "late": 1})
    with pytest.raises(
        JobError, match=r"output '.*#answers' cannot be written; if its columns should change, drop the table"
    ):
        plan(job(prompt="{body}", **settings), "r2")
    assert database.run("SELECT id FROM answers ORDER BY id") == [(1,), (2,)]


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    ("rows", "line"),
    [("nope", "nope"), ("select nope from letters", "nope"), ("select", "select"), ("select 1 frm x", "x")],
)
def test_unreadable_table_is_reported_in_one_line(database: Database, rows: str, line: str) -> None:
    """In the database's own words."""
    database.run(LETTERS)
    with pytest.raises(JobError) as error:
        plan(job(source=f"{database.place}#{rows}", prompt="{body}"), "r")
    assert str(error.value).startswith(f"source '{database.place}#{rows}' cannot be read: ")
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_sqlite_values_keep_their_types_in_untyped_columns(home: Path) -> None:
    """Bytes are hexadecimal; text that is not UTF-8 fails its row; columns of the same name get suffixes."""
    Database("sqlite", "", str(home / "own.db")).run(
        "CREATE TABLE t (id, mixed, blob, text); INSERT INTO t VALUES (1, 1, x'00ff', 'a'), (2, 'one', NULL, 'b'),"
        " (3, 1.5, x'', CAST(x'ff' AS TEXT)), (9007199254740993, NULL, NULL, 'd')"
    )
    source = "sqlite:///own.db#select *, 'again' as ID from t"
    made = plan(job(source=source, prompt="{mixed}|{blob}|{text}|{ID_5}"), "r")
    assert prompts(made) == {"1": "1|00ff|a|again", "2": "one||b|again", "9007199254740993": "||d|again"}
    assert broken(made) == {"row 3": "row 3: 'text' is not UTF-8"}


def test_postgresql_types_are_readable_in_a_prompt(server: str) -> None:
    """Types without a plain Python value are text."""
    values = {
        "day": ("DATE '2024-01-02'", "2024-01-02"),
        "at": ("TIMESTAMPTZ '2024-01-02 03:04:05+00'", "2024-01-02T03:04:05Z"),
        "price": ("1.10::numeric", "1.10"),
        "list": ("ARRAY[1, 2]", "[1,2]"),
        "json": ("""'{"a": ["x"]}'::jsonb""", '{"a":["x"]}'),
        "yes": ("true", "true"),
        "code": ("'\\xff00'::bytea", "ff00"),
        "name": ("'6f2e1c1e-0000-4000-8000-000000000001'::uuid", "6f2e1c1e-0000-4000-8000-000000000001"),
        "host": ("'10.0.0.1'::inet", "10.0.0.1"),
    }
    query = f"select 1 as id, {', '.join(f'{sql} as {column}' for column, (sql, _) in values.items())}"
    made = plan(job(source=f"{server}#{query}", prompt="|".join(f"{{{column}}}" for column in values)), "r")
    assert prompts(made) == {"1": "|".join(shown for _, shown in values.values())}


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"source": "sqlite:///own.db"},
            "the URL names a database but no table: add #table, or #select ... to read a query",
        ),
        ({"output": f"postgresql://host/db#data.{'x' * 63}"}, "the table name is longer than 62 bytes"),
        ({"output": "sqlite:///own.db#select 1"}, "a query cannot be written to: name a table"),
        (
            {"source": "sqlite://own.db#t"},
            "write sqlite:///file for a relative path, sqlite:////folder/file for an absolute path",
        ),
        ({"source": "postgresql://me:hush@localhost/db#t"}, "an address contains a password"),
        ({"output": "postgresql://localhost/db?user=me&password=hush#t"}, "an address contains a password"),
        ({"ledger": "sftp://me:hush@host/ledger"}, "an address contains a password"),
    ],
)
def test_addresses_are_validated_before_the_run(settings: dict[str, str], line: str) -> None:
    """The error does not show a password."""
    with pytest.raises(JobError) as error:
        job(**settings)
    assert line in str(error.value)
    assert "hush" not in f"{error.value} {error.value.__cause__}"


@pytest.mark.parametrize("source", ["sqlite:///nope.db#t", "duckdb:///nope.db#t"])
def test_missing_database_file_is_not_created(home: Path, source: str) -> None:
    """A new file would hide the mistake."""
    with pytest.raises(JobError, match=r"nope\.db does not exist: check source"):
        plan(job(source=source), "r")
    assert not (home / "nope.db").exists()


def test_unreachable_server_is_reported_in_one_line(home: Path, unused_tcp_port: int) -> None:
    """As a source, and as an output before the first call."""
    place = f"postgresql://me@127.0.0.1:{unused_tcp_port}/db#t"
    write_lines(home / "docs.jsonl", {"id": 1, "text": "a"})
    with pytest.raises(JobError, match=r"source 'postgresql://me@.*#t' cannot be read: .*onnect"):
        plan(job(source=place), "r1")
    with pytest.raises(JobError, match=r"output 'postgresql://me@.*#t' cannot be written: .*onnect"):
        check(job(output=place))


@pytest.mark.sample(1)
@pytest.mark.parametrize("table", ["answers", "a" * 60])
def test_table_of_a_complete_run_is_kept_until_the_next_one(database: Database, table: str) -> None:
    """A failed run and a stopped one fill the partial table, which a complete one removes."""
    database.run("CREATE TABLE letters (id INTEGER, body TEXT); INSERT INTO letters VALUES (1, 'a')")
    settings: dict[str, Any] = {"source": f"{database.place}#letters", "output": f"{database.place}#{table}"}
    run_job("r1", **settings)
    database.run("INSERT INTO letters VALUES (2, 'b')")
    totals = run_job("r2", fail="2", **settings)
    partial = totals.output.rpartition("#")[2]
    statuses = f"SELECT id, status FROM {partial} ORDER BY id"
    assert partial.endswith("_partial")
    assert totals.kept == settings["output"]
    assert [(int(item), status) for item, status in database.run(statuses)] == [(1, "succeeded"), (2, "failed")]
    assert len(database.run(f"SELECT id FROM {partial}_failures")) == 1
    todo = job(prompt="{body}", **settings)
    merge(todo, plan(todo, "r3"), stopped="stopped by Ctrl-C")
    assert [(int(item), status) for item, status in database.run(statuses)] == [(1, "succeeded"), (2, "not_attempted")]
    assert len(database.run(f"SELECT id FROM {table}")) == 1
    run_job("r4", **settings)
    assert len(database.run(f"SELECT id FROM {table}")) == 2
    for gone in (partial, f"{partial}_failures"):
        with pytest.raises(Exception, match=r"no such table|does not exist"):
            database.run(f"SELECT 1 FROM {gone}")
