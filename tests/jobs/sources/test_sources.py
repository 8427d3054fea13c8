"""Formats of sources, and errors of invalid rows and files."""

from __future__ import annotations

import gzip
import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import zstandard

from batch_llm.errors import JobError
from batch_llm.jobs import plan
from batch_llm.jobs.planning.preview import count_rows
from tests.support.jobs import broken, items, job, prompts, write_lines


def test_csv_values_are_not_converted(home: Path) -> None:
    """Numbers, dates and leading zeros are not converted."""
    (home / "docs.csv").write_text("id,text\n007,1.10\n008,2024-01-02\n", encoding="utf-8")
    assert prompts(plan(job(source="docs.csv"), "r")) == {"007": "1.10", "008": "2024-01-02"}


def test_invalid_csv_rows_fail_with_their_line_number(home: Path) -> None:
    """Lines are counted as in an editor, also after quoted line breaks and blank lines."""
    rows = [
        b"id,text",
        b'1,"two\nlines"',
        b"2,too,many",
        b"3",
        b"",
        b"4,\xff\xfe",
        b'5,"open "x" y"',
        b'6,"a ""quote"""',
    ]
    (home / "docs.csv").write_bytes(b"\n".join(rows) + b"\n")
    made = plan(job(source="docs.csv"), "r")
    assert prompts(made) == {"1": "two\nlines", "6": 'a "quote"'}
    assert broken(made) == {
        "line 4": "line 4: more columns than the header",
        "line 5": "line 5: fewer columns than the header",
        "line 7": "line 7: not UTF-8: set encoding to the actual one, such as cp1252",
        "line 8": "line 8: text follows a closed quote; a quote within a field must be doubled",
    }
    assert (made.total, made.broken) == (6, 4)


@pytest.mark.sample(2)
@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csv_dialects_are_detected(home: Path, delimiter: str, line_break: str, encoding: str) -> None:
    """The header shows the delimiter, and a byte order mark the encoding."""
    rows = [delimiter.join(cells) for cells in (("id", "text"), ("1", "é, ü; x"))]
    content = line_break.join(rows).replace("é, ü; x", '"é, ü; x"') + line_break
    (home / "docs.csv").write_bytes(content.encode(encoding))
    assert prompts(plan(job(source="docs.csv"), "r")) == {"1": "é, ü; x"}


def test_compressed_files_are_read(home: Path) -> None:
    """.gz and .zst of csv and jsonl, also with several members, as parallel compressors write them."""
    (home / "docs.csv.gz").write_bytes(gzip.compress(b"id,text\n1,a\n"))
    (home / "docs.jsonl.gz").write_bytes(gzip.compress(b'{"id": 2, "text": "b"}\n'))
    (home / "DOCS.CSV.GZ").write_bytes(gzip.compress(b"id,text\n3,c\n"))
    assert prompts(plan(job(source="DOCS.CSV.GZ"), "r0")) == {"3": "c"}
    assert prompts(plan(job(source="docs.csv.gz"), "r1")) == {"1": "a"}
    assert prompts(plan(job(source="docs.jsonl.gz"), "r2")) == {"2": "b"}
    for ending, lines in {"csv": (b"id,text\n", b"1,a\n"), "jsonl": (b"\n", b'{"id": 1, "text": "a"}\n')}.items():
        (home / f"docs.{ending}.zst").write_bytes(b"".join(map(zstandard.compress, lines)))
        assert prompts(plan(job(source=f"docs.{ending}.zst"), ending)) == {"1": "a"}


@pytest.mark.sample(2)
@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("kind", [".jsonl", ".csv"])
@pytest.mark.parametrize("is_cut", [True, False])
def test_damaged_compressed_file_is_reported_in_one_line(home: Path, kind: str, ending: str, is_cut: bool) -> None:
    """A truncated one, or one that is not compressed."""
    rows = [f"{number},{hashlib.sha256(b'%d' % number).hexdigest()}" for number in range(9000)]
    content = "\n".join(["id,text", *rows]) if kind == ".csv" else "\n".join(f'{{"text": "{row}"}}' for row in rows)
    packed = (gzip.compress if ending == ".gz" else zstandard.compress)(content.encode())
    (home / f"docs{kind}{ending}").write_bytes(packed[: len(packed) // 2] if is_cut else content.encode())
    with pytest.raises(JobError, match=rf"docs{kind}{ending}'? cannot be read: ") as error:
        plan(job(source=f"docs{kind}{ending}"), "r")
    assert "\n" not in str(error.value)


def test_damaged_compressed_text_file_fails_only_its_row(home: Path) -> None:
    """Other files of the folder are read."""
    (home / "a.txt.gz").write_bytes(gzip.compress(b"one"))
    (home / "b.txt.gz").write_bytes(b"two")
    made = plan(job(source="*.txt.gz"), "r")
    assert prompts(made) == {"a.txt.gz": "one"}
    assert "b.txt.gz cannot be read: " in broken(made)["b.txt.gz"]


def test_a_glob_reads_many_files_in_order(home: Path) -> None:
    """Broken rows have the name of their file in the id."""
    write_lines(home / "a.jsonl", {"id": 1, "text": "a"}, "nonsense")
    write_lines(home / "b.jsonl", {"id": 2, "text": "b"})
    made = plan(job(source="*.jsonl", output="out.csv"), "r")
    assert prompts(made) == {"1": "a", "2": "b"}
    assert list(broken(made)) == ["a.jsonl line 2"]


@pytest.mark.sample(1)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_csv_rows_may_have_different_line_breaks(home: Path, encoding: str, delimiter: str) -> None:
    """As in files combined from several machines: no row is lost, and quoted line breaks are not changed."""
    rows = ["id,text\r\n", "1,a\r\n", '2,"b\n""x"", \r\ny"\n', '3,"c"\r\n', '4,"d"\n', "5,e,f\n", "6,g\r", '7,"h\r"\n']
    content = "".join(rows).replace(",", delimiter)
    (home / "docs.csv").write_bytes(content.encode(encoding))
    made = plan(job(source="docs.csv"), "r")
    quoted = f'b\n"x"{delimiter} \r\ny'
    assert prompts(made) == {"1": "a", "2": quoted, "3": "c", "4": "d", "6": "g", "7": "h\r"}
    assert broken(made) == {"line 8": "line 8: more columns than the header"}


@pytest.mark.sample(1)
@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_csv_header_may_have_line_breaks_in_quotes(home: Path, delimiter: str, line_break: str) -> None:
    """As spreadsheets write them; in the column's name it is a space."""
    rows = ['"First\nname"|id|5" tall|"a ""b""\n text "', "Ada|1|no|a", '"B\nC"|2|yes|b|c']
    (home / "docs.csv").write_bytes(line_break.join([*rows, ""]).replace("|", delimiter).encode())
    made = plan(job(source="docs.csv", prompt='{First name}{5" tall}{a "b" text}'), "r")
    assert prompts(made) == {"1": "Adanoa"}
    assert broken(made) == {"line 5": "line 5: more columns than the header"}


def test_csv_rows_may_end_in_carriage_returns(home: Path) -> None:
    """As old spreadsheets write them."""
    (home / "docs.csv").write_bytes(b'id,text\r1,a\r2,"b, c"\r')
    assert prompts(plan(job(source="docs.csv"), "r")) == {"1": "a", "2": "b, c"}


def test_csv_files_of_a_glob_must_have_the_same_header(home: Path) -> None:
    """Values would end up in the wrong columns."""
    (home / "a.csv").write_text("id,text\n1,a\n")
    (home / "b.csv").write_text("text,id\nb,2\n")
    with pytest.raises(JobError, match=r"b\.csv has a different header than"):
        plan(job(source="*.csv"), "r")


@pytest.mark.sample(1)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_json_lines_of_concatenated_files_are_read(home: Path, encoding: str) -> None:
    """A byte order mark at any line's start is ignored; a line with nothing else is blank."""
    parts = ['{"id": 1, "text": "a"}\n', '{"id": 2, "text": "\ufeffb"}\n', "\n", '{"id": 3, "text": "c"}\n']
    (home / "docs.jsonl").write_bytes(b"".join(part.encode(encoding) for part in parts))
    made = plan(job(), "r")
    assert prompts(made) == {"1": "a", "2": "\ufeffb", "3": "c"}
    assert broken(made) == {}


def test_invalid_json_lines_fail_with_their_line_number(home: Path) -> None:
    """Blank lines count as lines, but are not rows."""
    good = [b'{"id": 1, "text": "a"}', b"", b'{"id": 5, "text": "b"}']
    content = b"\n".join([b"\xef\xbb\xbf" + good[0], good[1], b'{"id": 3,', b"\xff", good[2], b"[1]", b'{"id": 7'])
    content += b'\n{"id": 8, "text": ' + 5000 * b"1" + b"}"
    (home / "docs.jsonl").write_bytes(content)
    made = plan(job(), "r")
    assert prompts(made) == {"1": "a", "5": "b"}
    assert list(broken(made)) == ["line 3", "line 4", "line 6", "line 7", "line 8"]
    assert broken(made)["line 4"] == "line 4, byte 1, is not UTF-8: set encoding to the actual one, such as cp1252"
    assert broken(made)["line 6"] == "line 6 is not a JSON object: write {...}"


def test_a_folder_of_texts_gives_a_row_a_file(home: Path) -> None:
    """Ids are paths within the folder; a byte order mark shows the encoding; other files are ignored."""
    folder = home / "texts"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_bytes("grün".encode("utf-8-sig"))
    (folder / "sub" / "b.md").write_bytes("blau".encode("utf-16"))
    (folder / "c.txt").write_bytes("rösa".encode("latin-1"))
    (folder / "d.png").write_bytes(b"\x89PNG")
    (folder / ".hidden.txt").write_text("no")
    made = plan(job(source="texts"), "r")
    assert prompts(made) == {"a.txt": "grün", "sub/b.md": "blau"}
    assert broken(made) == {"c.txt": "c.txt, byte 2, is not UTF-8: set encoding to the actual one, such as cp1252"}
    assert prompts(plan(job(source="texts/**/*.md"), "r2")) == {"sub/b.md": "blau"}
    assert prompts(plan(job(source="texts/a.txt"), "r3")) == {"a.txt": "grün"}


def test_a_url_is_read_through_fsspec(home: Path) -> None:
    """Also on any other file system of fsspec."""
    import fsspec  # pyright: ignore[reportMissingTypeStubs]  has none

    memory = fsspec.filesystem("memory")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    memory.pipe("/in/docs.jsonl", b'{"id": 1, "text": "a"}\n')  # pyright: ignore[reportUnknownMemberType]
    memory.pipe("/in/docs.csv", b"id,text\n1,a\n")  # pyright: ignore[reportUnknownMemberType]
    assert prompts(plan(job(source="memory://in/docs.jsonl"), "r1")) == {"1": "a"}
    assert prompts(plan(job(source="memory://in/docs.csv"), "r2")) == {"1": "a"}
    with pytest.raises(JobError, match=r"memory://in/nope\.csv does not exist"):
        plan(job(source="memory://in/nope.csv"), "r3")


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-32", "cp437"]
)
def test_text_of_any_encoding_is_read(home: Path, encoding: str) -> None:
    """In CSV, JSON Lines and text files, also compressed ones."""
    files = {
        "docs.csv": 'id,text\r\n1,"süß, é\n£"\r\n',
        "docs.jsonl": '{"id": 1, "text": "süß, é\\n£"}\n',
        "docs.txt": "süß, é\n£",
    }
    for name, content in files.items():
        (home / f"{name}.gz").write_bytes(gzip.compress(content.encode(encoding)))
        made = plan(job(source=f"{name}.gz", encoding=encoding), name)
        assert list(prompts(made).values()) == ["süß, é\n£"], name


def test_rows_are_counted_in_the_configured_encoding(home: Path) -> None:
    """For example by a simulation of a preset."""
    (home / "docs.csv").write_bytes("id,text\n1,a\n2,b\n".encode("utf-16-le"))
    assert count_rows(job(source="docs.csv", encoding="utf-16-le")) == 2


def test_rows_that_are_not_in_the_encoding_fail_separately(home: Path) -> None:
    """The others are read; each file of a glob may have its own byte order mark."""
    (home / "a.csv").write_bytes(b"id,text\n1,a\n2,\x81\n3,c\n")
    (home / "b.csv").write_bytes("id,text\n4,ü\n".encode("utf-16"))
    (home / "a.jsonl").write_bytes(b'{"id": 1, "text": "a"}\n{"id": 2, "text": "\x81"}\n')
    made = plan(job(source="a.csv", encoding="cp1252"), "r1")
    assert prompts(made) == {"1": "a", "3": "c"}
    assert broken(made) == {"line 3": "line 3: not CP1252: set encoding to the actual one, such as cp1252"}
    assert list(broken(plan(job(source="a.jsonl", encoding="ascii"), "r2"))) == ["line 2"]
    made = plan(job(source="*.csv"), "r3")
    assert prompts(made) == {"1": "a", "3": "c", "4": "ü"}
    assert list(broken(made)) == ["a.csv line 3"]


def test_unknown_encoding_is_refused() -> None:
    """A codec from bytes to bytes is refused, too."""
    for name in ("nope", "base64", "rot13"):
        with pytest.raises(JobError, match=f"encoding is '{name}': unknown encoding: use a name such as cp1252"):
            job(encoding=name)


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("nope.jsonl", "nope.jsonl does not exist: check source"),
        ("nope", "nope does not exist: check source"),
        ("nope*.csv", "no file matches nope*.csv"),
        ("empty.jsonl", "empty.jsonl is empty: check source"),
        ("empty.csv", "empty.csv is empty: check source"),
        ("header.csv", "source 'header.csv' has no rows"),
        ("sqlite:///empty.db#docs", "source 'sqlite:///empty.db#docs' has no rows"),
        (f"-- all of them{' ' * 300}\nselect *", "no file matches -- all of them"),
        (f"{'x' * 300}.jsonl", "x.jsonl cannot be read: File name too long"),
        ("folder", "folder has no text files"),
        ("picture.png", "source 'picture.png' is not supported"),
        ("bad.parquet", "bad.parquet cannot be read:"),
        ("array.jsonl", "array.jsonl has no readable row: line 1 is not JSON: "),
        ("latin.txt", "latin.txt has no readable row: latin.txt, byte 2, is not UTF-8: set encoding"),
        ("select 1 frm x", "the query in source cannot be read:"),
        ("select 'x' as text where false", "has no rows"),
        ("from sqlite_scan('a.db', 'b')", "the query in source needs DuckDB's extension sqlite_scanner"),
        ("select text, 1 as id from 'docs.jsonl'", "ids in column 'id' are not unique: '1' (2 rows)"),
    ],
)
def test_invalid_source_is_reported_in_one_line(home: Path, source: str, line: str) -> None:
    """The error has the source, the reason and a fix."""
    write_lines(home / "docs.jsonl", {"text": "a"}, {"text": "b"})
    write_lines(home / "empty.jsonl")
    (home / "empty.csv").touch()
    (home / "header.csv").write_text("id,text\n")
    with closing(sqlite3.connect(home / "empty.db")) as database:
        database.execute("CREATE TABLE docs (id, text)")
    (home / "folder").mkdir()
    (home / "picture.png").touch()
    (home / "bad.parquet").write_bytes(b"PAR1 nonsense")
    (home / "array.jsonl").write_text(json.dumps([{"id": 1, "text": "a"}], indent=2))
    (home / "latin.txt").write_bytes("a\xe4".encode("latin-1"))
    with pytest.raises(JobError) as error:
        plan(job(source=source), "r")
    assert line in str(error.value)
    assert "\n" not in str(error.value).replace(source, "")


def test_rows_without_an_id_fail_separately(home: Path) -> None:
    """Null and blank ids, and a prompt without content."""
    write_lines(
        home / "docs.jsonl",
        {"id": None, "text": "a"},
        {"id": " ", "text": "b"},
        {"id": "c", "text": ""},
        {"id": 4, "text": "d"},
    )
    made = plan(job(), "r")
    assert prompts(made) == {"4": "d"}
    assert broken(made) == {
        "row 1": "row 1 has no value in the id column 'id'",
        "row 2": "row 2 has no value in the id column 'id'",
        "c": "the prompt of c is empty",
    }


def test_row_without_an_id_column_gets_an_id_from_its_content(home: Path) -> None:
    """The same row has the same id in every run; repeated rows get suffixes."""
    write_lines(home / "docs.jsonl", {"text": "a"}, {"text": "b"}, {"text": "a"}, {"text": "a"})
    ids = [item["id"] for item in items(plan(job(), "r1"))]
    assert ids[2:] == [f"{ids[0]}-2", f"{ids[0]}-3"]
    assert len(ids[0]) == 12
    write_lines(home / "docs.jsonl", {"text": "b"})
    assert [item["id"] for item in items(plan(job(), "r2"))] == [ids[1]]


def test_the_limit_takes_the_first_items(home: Path) -> None:
    """Broken rows come last."""
    write_lines(home / "docs.jsonl", {"id": 1, "text": "a"}, "broken", {"id": 2, "text": "b"}, {"id": 3, "text": "c"})
    made = plan(job(limit=2), "r")
    assert prompts(made) == {"1": "a", "2": "b"}
    assert (made.total, made.broken) == (2, 0)


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
def test_column_name_with_a_character_that_sql_lacks_can_be_used(home: Path, name: str) -> None:
    """A NUL and half of a surrogate pair become the replacement character."""
    write_lines(home / "docs.jsonl", {"id": "1", name: "one"})
    assert prompts(plan(job(prompt="{a\ufffdb}"), "r")) == {"1": "one"}
