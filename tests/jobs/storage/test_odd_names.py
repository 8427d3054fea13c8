"""A path with any characters is a single file; only a glob from the user is a pattern."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import fsspec  # pyright: ignore[reportMissingTypeStubs]  has none
import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import merge, plan
from batch_llm.jobs.results.runs import find_runs
from batch_llm.jobs.storage.store import Store
from tests.support.jobs import answer, job, prompts, read_lines, write_lines

NAMES = (
    *("[2026] reports", "a*b", "a?b", "[!a]", "**", "{a,b}", "100% #1", "it's", "Smith, J", "ü é", "a\nb", "a::b"),
    *("~", 'a"\\b', "a\\*b", " a "),
)


@pytest.fixture(params=NAMES)
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a working folder whose name, as a pattern, would match the folders next to it."""
    for other in ("2 reports", "axb", "ab", "b", "a"):
        write_lines(_made(tmp_path / other) / "docs.jsonl", {"id": other, "text": "other"})
        write_lines(_made(tmp_path / other / ".batch-llm" / "batch" / "old" / "ledger") / "x.jsonl", "{}")
    folder = _made(tmp_path / request.param)
    monkeypatch.setenv("BATCH_LLM_HOME", str(folder))
    write_lines(folder / "docs.jsonl", {"id": "1", "text": "one"}, {"id": "2", "text": "two"})
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run(run: str, **settings: Any) -> tuple[int, int]:
    made_for = job(**settings)
    made = plan(made_for, run)
    answer(made_for, made, fail="2")
    return made.reused, merge(made_for, made).succeeded


@pytest.mark.sample(1)
@pytest.mark.parametrize("output", ["out.parquet", "duckdb:///out.db#t", "sqlite:///out.db#t"])
def test_answers_are_reused_in_a_working_folder_of_any_name(home: Path, output: str) -> None:
    """Answers of the first run are written and reused, and no neighbouring folder is read."""
    if output.startswith("duckdb") and "?" in home.name:
        with pytest.raises(JobError, match=r"DuckDB does not support \? in a path"):
            _run("first", output=output)
        return
    assert _run("first", output=output) == (0, 1)
    assert _run("second", output=output) == (1, 1)
    assert {run.id for run in find_runs(Store(str(home / ".batch-llm")))} == {"first", "second"}


@pytest.mark.sample(1)
@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl.gz"])
def test_sources_and_outputs_may_have_any_name(home: Path, tmp_path: Path, ending: str) -> None:
    """An existing file takes precedence over the pattern in its name."""
    name = home.name
    assert _run("first", output=f"{name}.{ending}", ledger=f"{name}-ledger") == (0, 1)
    made = plan(job(source=f"{name}.{ending}", output="again.jsonl", name="again"), "again")
    assert prompts(made) == {"1": "one", "2": "two"}
    made = plan(job(source=f"{home.parent / '*'}/docs.jsonl", name="many"), "many")
    assert made.total == 7, "a glob from the user is a pattern"


@pytest.mark.sample(1)
def test_a_query_finds_files_of_the_working_folder(home: Path) -> None:
    """Relative names in the query start there."""
    made = plan(job(source="select id, text from 'docs.jsonl'"), "first")
    assert prompts(made) == {"1": "one", "2": "two"}


@pytest.mark.sample(1)
def test_partitioned_output_may_have_any_name(home: Path) -> None:
    """The folder is replaced as a whole."""
    for run in ("first", "second"):
        _run(run, output=f"{home.name}.csv", partition_by=["text"])
    assert {path.name for path in (home / f"{home.name}.csv").iterdir()} == {"text=one", "text=two"}
    assert len(read_lines(home / "docs.jsonl")) == 2


@pytest.mark.sample(2)
@pytest.mark.parametrize("home", ["[2026] reports", "a*b", "[!a]"], indirect=True)
@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl.gz"])
def test_a_url_may_have_the_characters_of_patterns(home: Path, memory: Any, ending: str) -> None:
    """Of a source, an output and a ledger in a bucket; no file next to them that a pattern matches is read."""
    for other in ("2 reports", "axb", "b"):
        memory.pipe(f"/in/{other}.{ending}", b"other")
        memory.pipe(f"/ledgers/{other}/batch/old/ledger/x.jsonl", b"other")
    url, ledger = f"memory://in/{home.name}.{ending}", f"memory://ledgers/{home.name}"
    assert _run("first", output=url, ledger=ledger) == (0, 1)
    assert _run("second", output=url, ledger=ledger) == (1, 1)
    assert {run.id for run in find_runs(Store(ledger))} == {"first", "second"}
    assert prompts(plan(job(source=url, output="again.jsonl", name="again"), "again")) == {"1": "one", "2": "two"}


@pytest.fixture
def memory() -> Iterator[Any]:
    """Return the file system memory://, which is emptied after the test."""
    system: Any = cast("Any", fsspec).filesystem("memory")
    yield system
    system.store.clear()
