"""Excel sources: a sheet of an .xlsx file, read row by row. The first row with a value has the names of the columns."""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any
from warnings import catch_warnings

from batch_llm.errors import JobError
from batch_llm.jobs.storage.duckdb_session import MAX_ROW_BYTES, Tables, session_folder

from .columns import NamedColumns
from .compression import wrapping_read_errors
from .file_paths import exists, is_remote, open_file
from .file_selection import FilesSource
from .rows import RowSource

if TYPE_CHECKING:
    from openpyxl.reader.excel import ExcelReader

_MB = 1024**2
_MOST_STREAMED, _MOST_WHOLE = 512 * _MB, 64 * _MB
"""Largest decompressed parts of a file: those that are read piece by piece, and those that are in memory as a whole."""

_STREAMED = re.compile(r"xl/(worksheets/[^/]*|sharedStrings)\.xml", re.IGNORECASE)
_MOST_ROWS = 1_048_576
"""Rows of a sheet in Excel: https://support.microsoft.com/office/1672b34d-7043-467e-8e27-269d656771c3"""

_WITH_SHEET = re.compile(r"(.+\.xls[xm])#(.+)", re.IGNORECASE)
_NOT_CODES = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]')
_ZEROS = re.compile(r"0{2,}")
_LINE_BREAK = re.compile(r"\s*[\r\n]\s*")
_EXPANSION = 10
"""Approximate ratio of a sheet's size to its size in the file."""


def split_sheet(place: str) -> tuple[str, str]:
    """Split a place into the file and the name of a sheet, which is empty for the first sheet.

    Example:
        >>> split_sheet("book.xlsx#Tickets")
        ('book.xlsx', 'Tickets')
    """
    found = None if exists(place) else _WITH_SHEET.fullmatch(place)
    return (found[1], found[2]) if found else (place, "")


class XlsxSource(FilesSource, RowSource):
    """Rows of a sheet: the first visible one, or the one that the place names after `#`."""

    endings = frozenset({".xlsx", ".xlsm"})
    kind = "Excel files"

    def __init__(self, tables: Tables, place: str, encoding: str | None = None) -> None:
        file, self._sheet = split_sheet(place)
        super().__init__(tables, file, encoding)

    def warnings(self) -> list[str]:
        """Return sentences on other files and other sheets; see `Source.warnings`."""
        found = super().warnings()
        for file in () if self._sheet else self.files:
            with _reading(file), self._local(file) as path, _Archive(path) as archive:
                reader = _reader(path, archive)
                with catch_warnings(action="ignore"):
                    reader.read_workbook()
                sheets = [(str(sheet.name), str(sheet.state)) for sheet, _ in reader.parser.find_sheets()]
            read = next((name for name, state in sheets if state == "visible"), sheets[0][0] if sheets else "")
            others = [name for name, _ in sheets if name != read]
            if others:
                found.append(
                    f"only the sheet {read!r} of {Path(file).name} is read, not {', '.join(map(repr, others))}: write "
                    f"{Path(file).name}#{others[0]} to read another one"
                )
        return found

    def size(self) -> int | None:
        """Return the approximate size of the decompressed files; see `Source.size`."""
        size = super().size()
        return None if size is None else size * _EXPANSION

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows; see `RowSource.rows`."""
        for file in self.files:
            with _reading(file), self._local(file) as path, _Archive(path) as archive:
                yield from self._rows(path, archive)

    def _rows(self, path: Path, archive: _Archive) -> Iterator[dict[str, Any]]:
        reader = _reader(path, archive)
        with catch_warnings(action="ignore"):
            reader.read()
        sheets: list[Any] = reader.wb.worksheets
        sheet = self._chosen(sheets)
        sheet.reset_dimensions()  # a file may state dimensions that it does not have
        columns: _Columns | None = None
        for values in _values(sheet, archive):
            if not any(value is not None and value != "" for value in values):
                continue
            if columns is None:
                columns = _Columns(values)
            else:
                yield columns.row(values)

    def _chosen(self, sheets: list[Any]) -> Any:
        names = [str(sheet.title) for sheet in sheets]
        if not sheets:
            raise JobError("it has no sheet with cells")
        if self._sheet and self._sheet not in names:
            raise JobError(f"it has no sheet {self._sheet!r}: its sheets are {', '.join(map(repr, names))}")
        if self._sheet:
            return sheets[names.index(self._sheet)]
        return next((sheet for sheet in sheets if sheet.sheet_state == "visible"), sheets[0])

    @contextmanager
    def _local(self, file: str) -> Generator[Path]:
        """Provide a local, decompressed copy of a file that is none; sheets are read from a file with random access."""
        if not is_remote(file) and Path(file).suffix.lower() in self.endings:
            yield Path(file)
            return
        with tempfile.NamedTemporaryFile(dir=session_folder(self.tables), suffix=".xlsx") as copy:
            with open_file(file) as opened:
                shutil.copyfileobj(opened, copy)
            copy.flush()
            yield Path(copy.name)


class _Columns:
    """Names of the columns: those of the header, and `column_7` for a value in a column without a name."""

    def __init__(self, header: list[Any]) -> None:
        texts = ["" if value is None else _LINE_BREAK.sub(" ", str(value)).strip() for value in header]
        self._named = NamedColumns()
        self._names = [self._named.add(text) for text in texts]
        self._in_header = [text != "" for text in texts]

    def row(self, values: list[Any]) -> dict[str, Any]:
        """Return a row by the names of its columns."""
        while len(self._names) < len(values):
            self._names.append(self._named.add(""))
            self._in_header.append(False)
        padded = [*values, *[None] * (len(self._names) - len(values))]
        columns = zip(self._names, self._in_header, padded, strict=True)
        return {name: value for name, is_named, value in columns if is_named or value is not None}


def _reader(path: Path, archive: _Archive) -> ExcelReader:
    from openpyxl.reader.excel import ExcelReader

    for part in archive.infolist():
        most = _MOST_STREAMED if _STREAMED.fullmatch(part.filename) else _MOST_WHOLE
        if part.file_size > most:
            raise JobError(f"{part.filename} in it has more than {most // _MB} MB: export the sheet as CSV")
    reader = ExcelReader(str(path), read_only=True, data_only=True, keep_links=False)
    reader.archive.close()
    reader.archive = archive
    reader.read_manifest()
    return reader


def _values(sheet: Any, archive: _Archive) -> Iterator[list[Any]]:
    rows = iter(sheet.iter_rows())
    for _ in range(_MOST_ROWS + 1):
        archive.room = MAX_ROW_BYTES
        with catch_warnings(action="ignore"):
            if (row := next(rows, None)) is None:
                return
        yield [_value(cell) for cell in row]
    raise JobError(f"the sheet has more than {_MOST_ROWS:,} rows")


def _value(cell: Any) -> Any:
    """Return the value of a cell: text, a number, a boolean, or a date and time as text, as the cell shows it."""
    match cell.value:
        case bool() | str() | None as value:
            return value
        case int() as value:
            return str(value).zfill(len(cell.number_format)) if _ZEROS.fullmatch(cell.number_format) else value
        case datetime() as value:
            is_day = value.time() == time.min and not re.search(r"[hs]", _codes(cell.number_format))
            return value.date().isoformat() if is_day else value.isoformat(" ")
        case date() | time() as value:
            return value.isoformat()
        case timedelta() as value:
            seconds = round(value.total_seconds())
            return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        case value:
            return value


def _codes(number_format: str) -> str:
    """Return a number format without literal texts and conditions."""
    return _NOT_CODES.sub("", number_format).lower()


@contextmanager
def _reading(file: str) -> Generator[None]:
    """Convert exceptions of damaged and hostile files into one line."""
    try:
        with wrapping_read_errors(file):
            yield
    except JobError as error:
        if isinstance(error.__cause__, zipfile.BadZipFile):
            raise JobError(
                f"{file} is not an .xlsx file: it is damaged, has a password, or is of an older Excel: save it as "
                ".xlsx without a password"
            ) from error
        raise


class _Archive(zipfile.ZipFile):
    """The parts of an .xlsx file.

    Attributes:
        room: Bytes that may be read until it is set again; None for any number.
    """

    room: int | None = None

    def __init__(self, path: Path) -> None:
        self._opened: list[IO[bytes]] = []
        super().__init__(path)

    def open(self, *args: Any, **kwargs: Any) -> Any:  # the signature differs between versions of Python
        """Open a part for reading."""
        part = super().open(*args, **kwargs)
        self._opened.append(part)
        return _Part(part, self)

    def close(self) -> None:
        """Close the file and its parts; the reader does not close a part with an error."""
        for part in self._opened:
            part.close()
        super().close()


class _Part:
    def __init__(self, part: IO[bytes], archive: _Archive) -> None:
        self._part = part
        self._archive = archive

    def read(self, size: int = -1) -> bytes:
        piece = self._part.read(size)
        if self._archive.room is not None:
            self._archive.room -= len(piece)
            if self._archive.room < 0:
                raise JobError(f"a row is longer than {MAX_ROW_BYTES // _MB} MB: export the sheet as CSV")
        return piece

    def close(self) -> None:
        self._part.close()

    def __enter__(self) -> _Part:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
