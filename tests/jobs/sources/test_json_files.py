"""Sources of .json files: an array of objects, one object per file, or JSON lines."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.errors import JobError
from batch_llm.jobs import plan
from batch_llm.jobs.planning.preview import preview
from batch_llm.jobs.sources.json import InvalidArray, elements
from tests.support.jobs import broken, job, prompts

ROWS = [{"id": 1, "text": "ä", "tags": ["x", {"y": 2.5}]}, {"id": "007", "text": "b", "dc:title": "T"}]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_an_array_of_objects_is_read(home: Path, indent: int | None, encoding: str) -> None:
    """Values keep their types, and nested values can be used in prompts."""
    (home / "docs.json").write_text(json.dumps(ROWS, indent=indent, ensure_ascii=False), encoding=encoding)
    made = plan(job(source="docs.json", prompt="{text}|{tags}|{dc:title}"), "r")
    assert prompts(made) == {"1": 'ä|["x",{"y":2.5}]|', "007": "b||T"}
    assert preview(job(source="docs.json")).items == 2


def test_compressed_arrays_are_read(home: Path) -> None:
    content = json.dumps(ROWS).encode()
    (home / "docs.json.gz").write_bytes(gzip.compress(content))
    (home / "docs.json.zst").write_bytes(zstandard.compress(content[:20]) + zstandard.compress(content[20:]))
    for ending in (".gz", ".zst"):
        assert prompts(plan(job(source=f"docs.json{ending}"), ending[1:])) == {"1": "ä", "007": "b"}


def test_each_file_may_have_one_object(home: Path) -> None:
    """A file that is not valid fails alone."""
    (home / "a.json").write_text(json.dumps(ROWS[0], indent=2))
    (home / "b.json").write_text(json.dumps(ROWS[1]))
    (home / "c.json").write_text('{\n"id": 3,\n}')
    (home / "d.json").write_text("5")
    made = plan(job(source="*.json"), "r")
    assert prompts(made) == {"1": "ä", "007": "b"}
    assert broken(made)["d.json"] == "d.json is not a JSON object: write {...}"
    assert broken(made)["c.json"].startswith("c.json is not JSON: ")


def test_a_json_file_may_have_json_lines(home: Path) -> None:
    """A broken line fails alone."""
    (home / "docs.json").write_text('{"id": 1, "text": "a"}\n{"id": \n{"id": 3, "text": "c"}\n')
    made = plan(job(source="docs.json"), "r")
    assert prompts(made) == {"1": "a", "3": "c"}
    assert list(broken(made)) == ["line 2"]


def test_elements_that_cannot_be_used_fail_alone(home: Path) -> None:
    (home / "docs.json").write_bytes(b'[{"id": 1, "text": "a"}, 5, {"id": 3, "text": "\xff"}, null, {"text": NaN}]')
    made = plan(job(source="docs.json", id_column="id"), "r")
    assert prompts(made) == {"1": "a"}
    assert broken(made) == {
        "element 2": "element 2 is not a JSON object: write {...}",
        "element 3": "element 3 is not UTF-8: set encoding to the actual one, such as cp1252",
        "element 4": "element 4 is not a JSON object: write {...}",
        "row 2": "row 2 has no value in the id column 'id'",
    }


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "docs.json is empty: check source"),
        (" [ ]\n", "docs.json is empty: check source"),
        ('[{"id": 1}', "cannot be read: the array is truncated after element 1"),
        ('[{"id": 1},', "cannot be read: element 2 of the array: Expecting value"),
        ('[{"id": 1}, {"id": x}]', "cannot be read: element 2 of the array: Expecting value"),
        ('[{"id": 1} {"id": 2}]', "cannot be read: ',' is expected after element 1, not '{"),
        ('[{"id": 1}]\n[{"id": 2}]', "cannot be read: text follows the end of the array: '["),
        ("[" * 100_000, "cannot be read: element 1 of the array: it is nested too deeply"),
        ("[" + "9" * 5000 + "]", "cannot be read: element 1 of the array: Exceeds the limit"),
        ("<html>", "docs.json has no readable row: docs.json is not JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(home: Path, content: str, line: str) -> None:
    """Elements after the error cannot be separated, so the file as a whole is refused."""
    (home / "docs.json").write_text(content)
    with pytest.raises(JobError) as error:
        plan(job(source="docs.json", prompt="{id}"), "r")
    assert line in str(error.value)
    assert "\n" not in str(error.value)


class _Pieces(io.StringIO):
    """A text that is read in small pieces."""

    most = 0

    def read(self, size: int | None = -1, /) -> str:
        piece = super().read(3)
        self.most = max(self.most, size or 0)
        return piece


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(values=st.lists(_JSON, max_size=5), indent=st.none() | st.integers(0, 2))
def test_elements_are_those_of_the_array(values: list[object], indent: int | None) -> None:
    """Wherever the file is cut into pieces."""
    text = json.dumps(values, indent=indent)
    assert [value for value, _ in elements(_Pieces(text), 1000)] == values


def test_an_array_is_read_piece_by_piece() -> None:
    """Memory is that of an element, and an error in the first element is found without reading the rest."""
    file = _Pieces("[" + '{"a": ' + "1" * 10 + "}, " * 1000)
    first = next(elements(file, 10_000))
    assert first[0] == {"a": 1_111_111_111}
    assert file.tell() < 50
    wrong = _Pieces('[{"a": tru}, ' + '{"a": 1},' * 1000)
    with pytest.raises(InvalidArray, match="element 1 of the array: Expecting value"):
        next(elements(wrong, 10_000))
    assert wrong.tell() < 50
    with pytest.raises(InvalidArray, match="it is longer than 1 MB"):
        next(elements(io.StringIO('["' + "x" * 3 * 1024**2 + '"]'), 1024**2))
