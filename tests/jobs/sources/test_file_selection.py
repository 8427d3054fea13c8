"""Which files a folder or a glob reads, and which it leaves out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fsspec  # pyright: ignore[reportMissingTypeStubs]  has none
import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import merge, plan, source_warnings
from batch_llm.jobs.planning.estimate import estimate
from batch_llm.jobs.planning.preview import preview
from batch_llm.jobs.sources.file_selection import left_out_sentence
from tests.support.command import batch_llm_here
from tests.support.jobs import answer, job, prompts, write_lines

OTHERS = "2 files left out: 1 .pdf, 1 .png (d.pdf, p.png)"


@pytest.fixture
def docs(home: Path) -> Path:
    """A folder with four texts, of which one is in a subfolder, two files of other kinds and a hidden one."""
    folder = home / "docs"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.txt", "b.TXT", "note.md", "sub/c.rst", "p.png", "d.pdf", ".hidden.txt"):
        (folder / name).write_text(name)
    return folder


@pytest.mark.usefixtures("docs")
@pytest.mark.parametrize(
    ("source", "names", "left_out"),
    [
        ("docs", ["a.txt", "b.TXT", "note.md", "sub/c.rst"], [OTHERS]),
        ("docs/*", ["a.txt", "b.TXT", "note.md"], [OTHERS]),
        ("docs/*.*", ["a.txt", "b.TXT", "note.md"], [OTHERS]),
        ("docs/**", ["a.txt", "b.TXT", "note.md", "sub/c.rst"], [OTHERS]),
        ("docs/**/*", ["a.txt", "b.TXT", "note.md", "sub/c.rst"], [OTHERS]),
        ("docs/note*", ["note.md"], []),
        ("docs/*.{txt,md}", ["a.txt", "note.md"], []),
        ("docs/{a,note}.*", ["a.txt", "note.md"], []),
        ("docs/{sub/*,a.txt}", ["a.txt", "sub/c.rst"], []),
        ("docs/?.*", ["a.txt", "b.TXT"], [OTHERS]),
        ("docs/[ap].*", ["a.txt"], ["1 file left out: 1 .png (p.png)"]),
        ("docs/*.txt", ["a.txt"], []),
    ],
)
def test_a_folder_or_glob_reads_the_texts_and_names_the_rest(
    source: str, names: list[str], left_out: list[str]
) -> None:
    """Hidden files are not part of it."""
    made = plan(job(source=source), "r")
    assert sorted(prompts(made)) == names
    assert list(made.warnings) == list(source_warnings(job(source=source))) == left_out


@pytest.mark.usefixtures("docs")
def test_files_that_are_left_out_are_in_the_totals_the_estimate_and_the_preview(home: Path) -> None:
    made_for = job(source="docs/*")
    made = plan(made_for, "r")
    answer(made_for, made)
    assert merge(made_for, made).warnings == [OTHERS]
    assert estimate(made_for).warnings == (OTHERS,)
    assert preview(made_for).items == 3
    assert preview(job(source="docs", limit=2)).items == 2
    assert json.loads((home / "out.jsonl").read_text().splitlines()[0])["id"] == "a.txt"


@pytest.mark.usefixtures("docs")
def test_commands_name_the_files_that_are_left_out(home: Path) -> None:
    for command in ("show", "estimate"):
        typed = [command, "summarize", "--source", "docs", "--model", "openai-chat:gpt-6-luna"]
        shown = batch_llm_here(*typed, folder=home, OPENAI_API_KEY="no-secret").stdout
        assert f"Warning  {OTHERS}" in shown
    assert json.loads(batch_llm_here(*typed, "--json", folder=home).stdout)["warnings"] == [OTHERS]
    assert "docs, 4 items" in batch_llm_here("show", "summarize", "--source", "docs", folder=home).stdout


def test_many_files_that_are_left_out_are_summed_up() -> None:
    names = [*(f"{number:03}.png" for number in range(30)), "x.tar.gz", "Makefile", "a\nb.bin"]
    assert left_out_sentence(names) == (
        "33 files left out: 30 .png, 1 .bin, 1 .tar.gz, 1 without extension "
        "(000.png, 001.png, 002.png, 003.png, 004.png, 28 more)"
    )


@pytest.mark.parametrize("source", ["data/*", "data/**", "data/*.{csv,tsv}"])
def test_a_glob_reads_tables_if_it_matches_no_text(home: Path, source: str) -> None:
    (home / "data").mkdir()
    (home / "data" / "a.csv").write_text("id,text\n1,a\n")
    (home / "data" / "b.csv").write_text("id,text\n2,b\n")
    assert prompts(plan(job(source=source), "r")) == {"1": "a", "2": "b"}


def test_a_glob_over_tables_of_several_kinds_is_refused(home: Path) -> None:
    (home / "a.csv").write_text("id,text\n1,a\n")
    write_lines(home / "b.jsonl", {"id": 2, "text": "b"})
    with pytest.raises(JobError, match=r"^\* matches CSV files and JSON lines files: use a glob with one extension$"):
        plan(job(source="*"), "r")


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("docs/*.p*", r"no file that docs/\*\.p\* matches is supported, only 1 \.pdf, 1 \.png \(d\.pdf, p\.png\) were"),
        ("docs/x*", r"no file matches docs/x\* \(in "),
        ("pictures", r"pictures has no text files \(\.eml, .*\); it has 1 \.png \(p\.png\): check source"),
        ("docs/p.png", r"'docs/p\.png' is not supported: use a file \(.*\.json, \.jsonl, .*\.xlsx, "),
    ],
)
@pytest.mark.usefixtures("docs")
def test_a_source_without_readable_files_says_what_is_there(home: Path, source: str, line: str) -> None:
    (home / "pictures").mkdir()
    (home / "pictures" / "p.png").touch()
    with pytest.raises(JobError, match=line):
        plan(job(source=source), "r")


@pytest.mark.parametrize(("source", "is_read"), [("data/*", True), ("data/*.{csv,tsv}", True), ("data/*.tsv", False)])
def test_an_output_that_a_glob_reads_is_refused(home: Path, source: str, is_read: bool) -> None:
    (home / "data").mkdir()
    (home / "data" / "a.tsv").write_text("id\ttext\n1\ta\n")
    made_for = job(source=source, output="data/out.csv")
    if is_read:
        with pytest.raises(JobError, match="is in the source, and would replace it"):
            plan(made_for, "r")
    else:
        assert prompts(plan(made_for, "r")) == {"1": "a"}


@pytest.mark.usefixtures("docs")
def test_an_output_next_to_texts_is_not_in_the_source() -> None:
    """It is of another kind, and named as left out from the second run on."""
    made_for = job(source="docs/*", output="docs/out.jsonl")
    made = plan(made_for, "r")
    answer(made_for, made)
    merge(made_for, made)
    assert plan(made_for, "r2").warnings == ("3 files left out: 1 .jsonl, 1 .pdf, 1 .png (d.pdf, out.jsonl, p.png)",)


def test_a_remote_glob_reads_the_texts_and_names_the_rest(home: Path) -> None:
    memory: Any = fsspec.filesystem("memory")  # pyright: ignore[reportUnknownMemberType]
    for name in ("a.txt", "b.md", "p.png"):
        memory.pipe(f"/letters/{name}", name.encode())
    made = plan(job(source="memory://letters/*"), "r")
    assert sorted(prompts(made).values()) == ["a.txt", "b.md"]
    assert made.warnings == ("1 file left out: 1 .png (p.png)",)
    assert sorted(prompts(plan(job(source="memory://letters/*.{md,rst}"), "r2")).values()) == ["b.md"]
