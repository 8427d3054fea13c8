"""Sources of .xlsx files."""

from __future__ import annotations

import gzip
import zipfile
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import fsspec  # pyright: ignore[reportMissingTypeStubs]  has none
import openpyxl
import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import plan
from batch_llm.jobs.planning.preview import preview
from batch_llm.jobs.sources import open_source
from batch_llm.jobs.storage.duckdb_session import open_tables
from tests.support.jobs import job, prompts
from tests.support.xlsx_files import text_cell, write_sheet


def write_book(path: Path, **sheets: list[list[Any]]) -> Any:
    """Write an .xlsx file with these rows; return the workbook for changes that `save` then writes."""
    book = openpyxl.Workbook()
    del book["Sheet"]
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return book


def test_cells_keep_their_values(home: Path) -> None:
    """Text stays text, and dates, times and numbers with leading zeros are as the cell shows them."""
    cells = {
        "text": "007",
        "number": 7,
        "fraction": 1.5,
        "yes": True,
        "day": date(2024, 2, 1),
        "moment": datetime(2024, 2, 1, 9, 30),
        "clock": time(9, 30),
        "hours": timedelta(hours=30, minutes=5),
        "zip": 1234,
        "error": "#N/A",
        "nothing": None,
    }
    book = write_book(home / "book.xlsx", S=[["id", *cells], ["a", *cells.values()]])
    book["S"]["J2"].number_format = "00000"
    book.save(home / "book.xlsx")
    prompt = "|".join(f"{{{name}}}" for name in cells)
    made = plan(job(source="book.xlsx", prompt=prompt), "r")
    assert prompts(made) == {
        "a": "007|7|1.5|true|2024-02-01|2024-02-01 09:30:00|09:30:00|30:05:00|01234|#N/A|",
    }
    assert preview(job(source="book.xlsx", prompt=prompt)).items == 1


def test_midnight_is_shown_if_the_cell_shows_the_time(home: Path) -> None:
    book = write_book(home / "book.xlsx", S=[["id", "text"], [1, datetime(2024, 2, 1)], [2, datetime(2024, 2, 1)]])
    book["S"]["B2"].number_format = '[$-409]dddd "hs" d. mmm'
    book.save(home / "book.xlsx")
    assert prompts(plan(job(source="book.xlsx"), "r")) == {"1": "2024-02-01", "2": "2024-02-01 00:00:00"}


def test_formulas_have_the_value_that_the_spreadsheet_program_stored(home: Path) -> None:
    """There is none in a file that no such program has saved."""
    header = f'<row r="1">{text_cell("A1", "id")}{text_cell("B1", "text")}</row>'
    stored = f'<row r="2">{text_cell("A2", "a")}<c r="B2"><f>1+1</f><v>2</v></c></row>'
    write_sheet(home / "book.xlsx", header, stored, f'<row r="3">{text_cell("A3", "b")}<c r="B3"><f>1+1</f></c></row>')
    assert prompts(plan(job(source="book.xlsx", prompt="{text}!"), "r")) == {"a": "2!", "b": "!"}


def test_empty_rows_are_no_items(home: Path) -> None:
    """Neither above the header, nor between rows, nor below them."""
    rows = [
        [None],
        [None, "id", None, "text"],
        [None, "a", None, "A"],
        [None, None],
        [None, ""],
        [None, "b", None, "B"],
    ]
    write_book(home / "book.xlsx", S=[*rows, [None], [""]])
    assert prompts(plan(job(source="book.xlsx"), "r")) == {"a": "A", "b": "B"}


def test_columns_get_unique_names(home: Path) -> None:
    """A column without a name, as below a merged cell, gets one if it has a value."""
    rows = [["id", "text", "text", "two\nlines", 2024, "wide"], [1, "a", "b", "c", "d", "e", "f", None, "g"]]
    book = write_book(home / "book.xlsx", S=rows)
    book["S"].merge_cells("F1:G1")
    book.save(home / "book.xlsx")
    prompt = "{text}{text_3}{two lines}{2024}{wide}{column_7}{column_9}"
    with open_tables() as tables:
        columns = open_source(tables, "book.xlsx").columns({"column_9"})
    assert columns == ("id", "text", "text_3", "two lines", "2024", "wide", "column_7", "column_9")
    assert prompts(plan(job(source="book.xlsx", prompt=prompt), "r")) == {"1": "abcdefg"}


def test_the_first_visible_sheet_is_read_and_the_others_are_named(home: Path) -> None:
    rows = {name: [["id", "dc:title"], [1, name]] for name in ("Hidden", "Tickets", "Old tickets")}
    book = write_book(home / "book.xlsx", **rows)
    book["Hidden"].sheet_state = "hidden"
    book.save(home / "book.xlsx")
    made = plan(job(source="book.xlsx", prompt="{dc:title}"), "r")
    assert prompts(made) == {"1": "Tickets"}
    warning = "only the sheet 'Tickets' of book.xlsx is read, not 'Hidden', 'Old tickets': "
    assert made.warnings == (f"{warning}write book.xlsx#Hidden to read another one",)
    for sheet in ("Old tickets", "Hidden"):
        chosen = plan(job(source=f"book.xlsx#{sheet}", prompt="{dc:title}"), sheet)
        assert (prompts(chosen), chosen.warnings) == ({"1": sheet}, ())
    with pytest.raises(JobError, match=r"it has no sheet 'x': its sheets are 'Hidden', 'Tickets', 'Old tickets'"):
        plan(job(source="book.xlsx#x", prompt="{dc:title}"), "x")


def test_files_may_be_many_remote_or_compressed(home: Path) -> None:
    for name in ("a", "b"):
        write_book(home / f"{name}.xlsx", S=[["id", "text"], [name, name.upper()]])
    content = (home / "a.xlsx").read_bytes()
    memory: Any = fsspec.filesystem("memory")  # pyright: ignore[reportUnknownMemberType]
    memory.pipe("/books/a.xlsx", content)
    (home / "packed.xlsx.gz").write_bytes(gzip.compress(content))
    assert prompts(plan(job(source="?.xlsx"), "many")) == {"a": "A", "b": "B"}
    for number, source in enumerate(("memory://books/a.xlsx", "memory://books/a.xlsx#S", "packed.xlsx.gz")):
        assert prompts(plan(job(source=source), f"r{number}")) == {"a": "A"}


_LAUGHS = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
_BOMB = f'<!DOCTYPE x [<!ENTITY e0 "aaaaaaaaaa">{_LAUGHS}]>'
_FOREIGN = '<!DOCTYPE x [<!ENTITY e9 SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("doctype", [_BOMB, _FOREIGN], ids=["expansion", "external"])
def test_xml_entities_are_refused(home: Path, doctype: str) -> None:
    write_sheet(home / "book.xlsx", f'<row r="1">{text_cell("A1", "&e9;")}</row>', doctype=doctype)
    with pytest.raises(JobError, match=r"book\.xlsx cannot be read: (limit on input amplification|undefined entity)"):
        plan(job(source="book.xlsx"), "r")


def test_a_cell_is_not_read_if_it_is_too_long(home: Path) -> None:
    """Excel's own limit is 32,767 characters; the file is small, because the text is repetitive."""
    cells = f'<row r="1">{text_cell("A1", "id")}</row>', f'<row r="2">{text_cell("A2", "x" * 70_000_000)}</row>'
    write_sheet(home / "book.xlsx", *cells)
    with pytest.raises(JobError, match=r"a row is longer than 64 MB: export the sheet as CSV"):
        plan(job(source="book.xlsx", prompt="{id}"), "r")


def test_a_part_is_not_read_if_it_is_too_large(home: Path) -> None:
    """What a file declares is all that is read of it."""
    write_book(home / "book.xlsx", S=[["id", "text"], [1, "a"]])
    with zipfile.ZipFile(home / "book.xlsx", "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("docProps/extra.xml", b" " * 65 * 1024**2)
    with pytest.raises(JobError, match=r"docProps/extra\.xml in it has more than 64 MB: export the sheet as CSV"):
        plan(job(source="book.xlsx"), "r")


def test_cells_far_apart_take_no_memory(home: Path) -> None:
    """The stated dimensions are not trusted, and rows that do not exist are not made."""
    header = f'<row r="1">{text_cell("A1", "id")}{text_cell("B1", "text")}</row>'
    last = f'<row r="5000">{text_cell("A5000", "a")}{text_cell("XFD5000", "far")}</row>'
    write_sheet(home / "book.xlsx", header, last)
    assert prompts(plan(job(source="book.xlsx", prompt="{column_16384}"), "r")) == {"a": "far"}


@pytest.mark.whole
def test_a_sheet_has_no_more_rows_than_excel_allows(home: Path) -> None:
    header = f'<row r="1">{text_cell("A1", "id")}</row>'
    write_sheet(home / "book.xlsx", header, f'<row r="1048576">{text_cell("A1048576", "a")}</row>')
    assert prompts(plan(job(source="book.xlsx", prompt="{id}"), "r")) == {"a": "a"}
    write_sheet(home / "book.xlsx", header, f'<row r="2000000000">{text_cell("A2000000000", "a")}</row>')
    with pytest.raises(JobError, match="the sheet has more than 1,048,576 rows"):
        plan(job(source="book.xlsx", prompt="{id}"), "r")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"PK\x03\x04 nonsense", "is not an .xlsx file: it is damaged, has a password, or is of an older Excel"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "is not an .xlsx file: it is damaged, has a password"),
        (b"", "is not an .xlsx file"),
    ],
)
def test_a_file_of_another_format_is_one_line(home: Path, content: bytes, line: str) -> None:
    """Files with a password and of older versions of Excel begin like the second one."""
    (home / "book.xlsx").write_bytes(content)
    with pytest.raises(JobError) as error:
        plan(job(source="book.xlsx"), "r")
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_a_damaged_file_is_one_line(home: Path) -> None:
    write_sheet(home / "book.xlsx", '<row r="1"><c r="A1"></row>')
    with pytest.raises(JobError, match=r"book\.xlsx cannot be read: mismatched tag: line 1, column \d+$"):
        plan(job(source="book.xlsx"), "r")
    with zipfile.ZipFile(home / "zip.xlsx", "w") as archive:
        archive.writestr("a.txt", "no spreadsheet")
    with pytest.raises(JobError, match=r"zip\.xlsx cannot be read: [^\n]*Content_Types"):
        plan(job(source="zip.xlsx"), "r")
    write_book(home / "empty.xlsx", S=[])
    with pytest.raises(JobError, match=r"empty\.xlsx is empty: check source"):
        plan(job(source="empty.xlsx"), "r")
