"""CSV files with open quotes, lines above the header, or Excel's separator line."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import plan
from tests.support.jobs import broken, job, prompts

NOT_CLOSED = "a quote is not closed"
TEXT_AFTER_QUOTE = "text follows a closed quote; a quote within a field must be doubled"
ROWS = [f"{number},row {number}" for number in range(1, 101)]


@pytest.mark.sample(2)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("lines", "good", "bad"),
    [
        (['1,"open', "2,b", '3,"c"'], {"2": "b", "3": "c"}, [2]),
        (['1,"open', "2,b", '3,", all well"'], {"2": "b", "3": ", all well"}, [2]),
        (["1,a", '2,"open', '3,"open', '4,"d, ""e"""'], {"1": "a", "4": 'd, "e"'}, [3, 4]),
        (['"1,open', "2,b"], {"2": "b"}, [2]),
        (["1,a", '2,"open'], {"1": "a"}, [3]),
    ],
)
def test_open_quote_fails_only_its_row(
    home: Path, lines: list[str], good: dict[str, str], bad: list[int], end: str
) -> None:
    """With no quote after it, another one, or the end of the file."""
    (home / "docs.csv").write_bytes(end.join(["id,text", *lines, ""]).encode())
    made = plan(job(source="docs.csv"), "r")
    assert prompts(made) == good
    assert broken(made) == {f"line {line}": f"line {line}: {NOT_CLOSED}" for line in bad}
    assert made.total == len(lines)


def test_text_after_a_closed_quote_fails_only_its_row(home: Path) -> None:
    (home / "docs.csv").write_text('id,text\n1,"closed" too early\n2,b\n3,"open\n4,"closed" as well\n')
    made = plan(job(source="docs.csv"), "r")
    assert prompts(made) == {"2": "b"}
    assert broken(made) == {
        "line 2": f"line 2: {TEXT_AFTER_QUOTE}",
        "line 4": f"line 4: {NOT_CLOSED}",
        "line 5": f"line 5: {TEXT_AFTER_QUOTE}",
    }


def test_two_open_quotes_do_not_hide_the_rows_between_them(home: Path) -> None:
    """Also if the second quote closes the first, so that the file is valid."""
    rows = [*ROWS[:9], '10,"open', *ROWS[10:59], '60,closed"', *ROWS[60:]]
    (home / "docs.csv").write_text("\n".join(["id,text", *rows, ""]))
    made = plan(job(source="docs.csv"), "r")
    assert broken(made) == {"line 11": f"line 11: {NOT_CLOSED}"}
    assert (made.total, prompts(made)["60"]) == (100, 'closed"')


def test_multi_line_fields_are_complete_next_to_an_open_quote(home: Path) -> None:
    """Lines are counted as in an editor; an extra column has its own message."""
    long = "\n".join(f"line {number}, of a letter, with words" for number in range(100))
    content = f'id,text\n1,"{long}"\n2,"open\n3,"a\nb",extra\n4,"c\n\n""d"""\n'
    (home / "docs.csv").write_text(content)
    made = plan(job(source="docs.csv"), "r")
    assert prompts(made) == {"1": long, "4": 'c\n\n"d"'}
    assert broken(made) == {
        "line 102": f"line 102: {NOT_CLOSED}",
        "line 103": "line 103: more columns than the header",
    }


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("separator", "delimiter"), [("sep=;", ";"), ('"sep=;"', ";"), ("sep=\t", "\t"), ("SEP=,", ","), ("sep=~", "~")]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_separator_line_of_excel_is_used_and_skipped(
    home: Path, separator: str, delimiter: str, encoding: str
) -> None:
    """Lines are still counted from the first one."""
    lines = [separator, f"id{delimiter}text|more", f"1{delimiter}a", f"2{delimiter}b{delimiter}c", "", ""]
    (home / "docs.csv").write_bytes("\r\n".join(lines).encode(encoding))
    made = plan(job(source="docs.csv", prompt="{text|more}"), "r")
    assert prompts(made) == {"1": "a"}
    assert list(broken(made)) == ["line 4"]


@pytest.mark.parametrize(
    ("above", "line"),
    [
        ("Export of 2026-11-27\n", "line 1 is 'Export of 2026-11-27', and line 2 is the header with 'text'"),
        ("# by x, y\n#\n", "line 1 is '# by x, y', and line 3 is the header with 'text'"),
        ("Report,\n\n", "line 1 is 'Report,', and line 3 is the header with 'text'"),
    ],
)
def test_lines_above_the_header_are_reported(home: Path, above: str, line: str) -> None:
    """The error has the lines, the number of the header's line, and a fix."""
    (home / "docs.csv").write_text(f"{above}id,text\n1,a\n2,b\n")
    with pytest.raises(JobError) as error:
        plan(job(source="docs.csv"), "r")
    assert str(error.value).endswith(f"docs.csv: {line}: delete the lines above the header")


def test_missing_header_and_open_quote_in_the_header_are_reported(home: Path) -> None:
    """Blank lines above the header are ignored."""
    (home / "title.csv").write_text("Report\n1,a\n2,b\n")
    with pytest.raises(
        JobError, match=r"line 1 is 'Report', which is not a header for the 2 columns of the lines below"
    ):
        plan(job(source="title.csv"), "r1")
    (home / "open.csv").write_text('id,"text\n1,a\n')
    with pytest.raises(JobError, match=r"open\.csv, line 1: a quote in the header is not closed"):
        plan(job(source="open.csv"), "r2")
    (home / "blank.csv").write_text("\n \nid,text\n1,a\n")
    assert prompts(plan(job(source="blank.csv"), "r3")) == {"1": "a"}


def test_a_broken_row_is_reported_once_though_its_file_is_read_twice(home: Path) -> None:
    """A prompt without a column is allowed for one row, so the rows are counted before they are read."""
    (home / "docs.csv").write_text("id,text\n1,a\n2,b,c\n")
    made = plan(job(source="docs.csv", prompt="hello"), "r")
    assert broken(made) == {"line 3": "line 3: more columns than the header"}
    assert (made.total, made.broken, prompts(made)) == (2, 1, {"1": "hello"})
