"""Queries: a source is one SELECT over files that it names, and a condition reads only its run."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import plan
from batch_llm.jobs.planning.preview import count_rows, preview
from batch_llm.jobs.storage.select_only import check_condition, condition_query
from tests.support.jobs import job, prompts, write_lines

ONE = "must be one SELECT and nothing else"
NAMED = "a query can only read the data files that it names in quotes"


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "select 1 as id, 'x' as text) ; copy (select 1) to 'made.csv'; select * from (select 1 as id, 'y' as text",
            "",
        ),
        ("select 1 as id, 'x' as text; copy (select 1) to 'made.csv'", ONE),
        ("select 1 as id; attach 'made.db' as made", ONE),
        ("select 1 as id; set threads = 2", ONE),
        ("with a as (select 1) insert into made select 1", ONE),
        ("from (show tables)", ONE),
        ("from (describe 'docs.parquet')", ONE),
        ("from (pivot 'docs.parquet' on id)", ONE),
        ("from read_text('secret')", NAMED),
        ("from read_text('.env')", NAMED),
        ("from read_text('/proc/self/environ')", NAMED),
        ("select 1 as id, (select max(content) from read_text('/etc/passwd')) as text", NAMED),
        ("from read_csv('oth' || 'er.csv')", NAMED),
        ("from 'http://127.0.0.1:9/docs.parquet'", "or use a URL as the source itself"),
        ("from query('select 1 as id')", "calls query(), which is not allowed"),
        ("from glob('*')", "calls glob(), which is not allowed"),
        ("select current_setting('home_directory') as id", "calls current_setting(), which is not allowed"),
        ("select 1 as id order by list_transform([1], x -> getvariable('x'))", "calls getvariable(), which is not"),
        ("from pg_settings", "reads pg_settings, which is not allowed"),
        ("from system.information_schema.tables", "reads system.information_schema.tables, which is not allowed"),
        ("from duckdb_settings()", "calls duckdb_settings(), which is not allowed"),
        ("from enable_logging(storage_path := 'made.csv')", "calls enable_logging(), which is not allowed"),
        ("from json_execute_serialized_sql(json_serialize_sql('select 1'))", "which is not allowed"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "duckdb:///docs.duckdb#"])
def test_query_can_only_read_files_that_it_names(home: Path, query: str, message: str, prefix: str) -> None:
    """Neither reading nor counting its rows creates a file or reads another one."""
    duckdb.sql(f"COPY (SELECT 1 AS id, 'a' AS text) TO '{home / 'docs.parquet'}'")
    for name in ("secret", ".env", "other.csv"):
        (home / name).write_text("id,text\n1,a\n")
    with duckdb.connect(str(home / "docs.duckdb")) as tables:
        tables.execute("CREATE TABLE docs AS SELECT 1 AS id, 'a' AS text")
    before = sorted(home.iterdir())
    for read in (preview, count_rows):
        with pytest.raises(JobError) as error:
            read(job(source=f"{prefix}{query}"))
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    assert sorted(home.iterdir()) == before


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "query",
    [
        "select * from 'docs.parquet' -- a comment\n;",
        "select docs.* from read_parquet('doc*.parquet') docs semi join 'more/[ab].csv' more using (id) where id = 1",
        "with pg_settings as (select 1 as id, 'a' as text) from pg_settings",
        "with docs as (from read_csv(['more/a.csv', 'more/b.csv'], all_varchar = true)) from docs order by id limit 1",
        "select unnest([1]) as id, 'a' as text, current_date as today",
        "select i as id, (select max(text) from 'docs.parquet') as text from range(1, 2) numbers(i)",
        "select 1 as id, 'a' as text union all select * from 'docs.parquet' where id > 1",
    ],
)
def test_query_can_join_files_that_it_names(home: Path, query: str) -> None:
    """Tables, patterns, lists of files, and table functions are allowed."""
    duckdb.sql(f"COPY (SELECT 1 AS id, 'a' AS text) TO '{home / 'docs.parquet'}'")
    (home / "more").mkdir()
    for name in ("a", "b"):
        (home / "more" / f"{name}.csv").write_text(f"id,text\n1,{name}\n2,{name}\n")
    assert prompts(plan(job(source=query), "r")) == {"1": "a"}


def test_views_and_macros_of_a_database_read_its_tables_and_no_file(home: Path) -> None:
    """A database file from somebody else gets no access to files."""
    (home / "other.csv").write_text("id,text\n1,a\n")
    with duckdb.connect(str(home / "docs.duckdb")) as tables:
        tables.execute("CREATE TABLE docs AS SELECT 1 AS id, 'a' AS text")
        tables.execute("CREATE MACRO few(most) AS TABLE SELECT * FROM docs LIMIT most")
        tables.execute(f"CREATE VIEW outside AS FROM read_csv('{home / 'other.csv'}')")
    assert prompts(plan(job(source="duckdb:///docs.duckdb#select * from few(1)"), "r1")) == {"1": "a"}
    with pytest.raises(JobError, match=NAMED):
        plan(job(source="duckdb:///docs.duckdb#outside"), "r2")


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "query",
    ["with a as (select 1) delete from docs", "select load_extension('x')", "select 1 as id; delete from docs"],
)
def test_a_query_of_sqlite_only_reads(home: Path, query: str) -> None:
    """SQLite's own parser decides; full-text search and JSON work."""
    with closing(sqlite3.connect(home / "docs.db")) as database:
        database.execute("CREATE VIRTUAL TABLE docs USING fts5 (id, text)")
        database.execute("INSERT INTO docs VALUES ('1', 'a')")
        database.commit()
    with pytest.raises(JobError) as error:
        plan(job(source=f"sqlite:///docs.db#{query}"), "r1")
    assert "\n" not in str(error.value)
    found = "select docs.id, value as text from docs, json_each('[\"b\"]') where docs match 'a'"
    assert prompts(plan(job(source=f"sqlite:///docs.db#{found}"), "r2")) == {"1": "b"}


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    "where",
    [
        "exists (from read_text('/etc/passwd'))",
        "exists (from 'docs.csv')",
        "true) union all select * from others where (true",
        "true) order by (id",
        "true; drop view results",
        "(select count(*) from duckdb_settings()) > 0",
        "(select count(*) from information_schema.tables) > 0",
        "true from others",
        '(with "docs.csv" as (select 1) select 1) = 1 and exists (from "docs.csv")',
        "",
    ],
)
def test_condition_reads_only_its_run(where: str) -> None:
    """It cannot read a file or another table, or have a second statement."""
    with pytest.raises(ValueError, match=r"can only read the run's items|one condition|cannot be read"):
        check_condition(where, "results")


@pytest.mark.parametrize(
    "where", ["status = 'failed' -- those", "true) or (false", "attempts = (select max(attempts) from results)"]
)
def test_a_condition_may_be_any_expression(where: str) -> None:
    """Subqueries over the run's items are allowed, too."""
    check_condition(where, "results")
    with duckdb.connect() as tables:
        tables.execute("CREATE TABLE results AS SELECT 'failed' AS status, 2 AS attempts")
        assert tables.execute(condition_query(where, "results")).fetchall() == [("failed", 2)]


def test_python_variables_are_not_tables(home: Path) -> None:
    """DuckDB can read Python variables by their names, which must be off."""
    write_lines(home / "docs.jsonl", {"id": 1, "text": "a"})
    with pytest.raises(JobError, match="does not exist"):
        plan(job(source="select * from job"), "r")
