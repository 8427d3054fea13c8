"""CSV sources: every value stays text, and a broken row is reported with its line number."""

from __future__ import annotations

import re
import shutil
import tempfile
from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from batch_llm.errors import JobError
from batch_llm.jobs.storage.duckdb_session import MAX_ROW_BYTES, Tables, file_text, name, text
from batch_llm.jobs.storage.formats import split_ending

from .base import BrokenRow
from .columns import unique_names
from .csv_header import CsvStart, check_first_line_is_header, read_start
from .csv_quotes import LINES_TO_JUDGE, NOT_CLOSED, SeparatedRows
from .file_paths import is_taken_for_glob, open_file, readable_name
from .file_selection import FilesSource
from .nested_values import find_path
from .text_encoding import UTF_8, encoding_of, may_be_mixed, not_in, open_utf8, with_one_line_end

_LONGEST_HEADER = 1024 * 1024
_LINE_BREAK = re.compile(r"\s*[\r\n]\s*")
_REASONS = {
    "TOO MANY COLUMNS": "more columns than the header",
    "MISSING COLUMNS": "fewer columns than the header",
    "UNQUOTED VALUE": NOT_CLOSED,
    "LINE SIZE OVER MAXIMUM": f"longer than {MAX_ROW_BYTES // 1024**2} MB",
}


@dataclass
class _Read:
    """State of reading one CSV file.

    Attributes:
        path: The file that DuckDB reads: the original, or a copy.
        original: The file of the source.
        open_quotes: What is wrong with the quotes of a line, by its number.
        has_open_quotes: Whether the file may have unclosed quotes.
        rejects: Line number, kind and reason of each row that cannot be read.
    """

    path: str
    original: str
    open_quotes: Mapping[int, str] = field(default_factory=dict[int, str])
    has_open_quotes: bool = False
    rejects: Sequence[tuple[int, str, str]] = ()


class CsvSource(FilesSource):
    """Rows of one or several .csv or .tsv files with the same header; each header is read once."""

    endings = frozenset({".csv", ".tsv"})
    kind = "CSV files"

    def __init__(self, tables: Tables, place: str, encoding: str | None = None) -> None:
        super().__init__(tables, place, encoding)
        self._starts: dict[str, CsvStart] = {}
        self._encodings: dict[str, str] = {}

    def columns(self, wanted: Set[str]) -> tuple[str, ...]:
        """Return the names of the columns; see `Source.columns`."""
        files = self.files
        start = self._start(files[0])
        for file in files[1:]:
            if self._start(file) != start:
                raise JobError(f"{file} has a different header than {files[0]}: run them as separate jobs")
        names = unique_names(_LINE_BREAK.sub(" ", name.strip()) for name in start.names())
        if not all(find_path(name, names) for name in wanted):
            check_first_line_is_header(files[0], self._first_part(files[0]), start, wanted)
        return names

    def stage(self, rows: Path, limit: int | None) -> list[BrokenRow]:
        """Write the rows to a numbered Parquet file; see `Source.stage`."""
        with tempfile.TemporaryDirectory(prefix="utf-8-", dir=rows.parent) as folder:
            read = [_Read(self._readable(file, Path(folder) / f"{n}.csv"), file) for n, file in enumerate(self.files)]
            self._write(read, rows, limit)
            self._find_rejects(read)
            if not any(file.has_open_quotes for file in read):
                if not self._has_swallowed_rows(rows):
                    return self._broken(read)
                for file in read:
                    file.has_open_quotes = True
            # DuckDB has read everything after an unclosed quote as the text of one field.
            for number, file in enumerate(read):
                if file.has_open_quotes:
                    self._separate(file, Path(folder) / f"{number}-separated.csv", limit)
            self._write(read, rows, limit)
            self._find_rejects(read)
            return self._broken(read)

    def _has_swallowed_rows(self, rows: Path) -> bool:
        """Whether a field contains many lines that are rows themselves, as happens between two unclosed quotes."""
        start = self._start(self.files[0])
        columns = self.columns(frozenset())
        between = f"length(line) - length(replace(line, {text(start.delimiter)}, ''))"
        found: list[str] = []
        for column in columns if len(columns) > 1 else ():
            lines = f"string_split({name(column)}, chr(10))[2:{LINES_TO_JUDGE + 1}]"
            are_rows = f"len(list_filter({lines}, lambda line: {between} = {len(columns) - 1}))"
            found.append(f"(contains({name(column)}, chr(10)) AND {are_rows} >= {0.9 * LINES_TO_JUDGE})")
        query = f"SELECT 1 FROM {file_text(rows)} WHERE {' OR '.join(found) or 'false'} LIMIT 1"
        return self._execute(query).fetchone() is not None

    def _write(self, read: Sequence[_Read], rows: Path, limit: int | None) -> None:
        types = ", ".join(f"{text(column)}: 'VARCHAR'" for column in self.columns(frozenset()))
        start = self._start(read[0].original)
        names = ", ".join(text(readable_name(file.path)) for file in read)
        query = (
            f"SELECT * FROM read_csv([{names}], auto_detect=false, header=true, "
            f"columns={{{types}}}, delim={text(start.delimiter)}, quote='\"', escape='\"', allow_quoted_nulls=false, "
            f"skip={start.lines_before}, "
            f"max_line_size={MAX_ROW_BYTES}, buffer_size={MAX_ROW_BYTES}, store_rejects=true)"
        )
        self._execute("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans")  # of an earlier reading
        self.write_numbered(query, rows, limit)

    def _separate(self, file: _Read, copy: Path, limit: int | None) -> None:
        separated = SeparatedRows(self._start(file.original).delimiter.encode(), len(self.columns(frozenset())))
        with open_utf8(file.original, self._encoding(file.original)) as source, copy.open("wb") as target:
            target.writelines(separated.of(source, limit))
        file.path, file.open_quotes = str(copy), separated.broken

    def _readable(self, file: str, copy: Path) -> str:
        """Return a file that DuckDB can read: this file, or a copy in UTF-8 with one kind of line ending."""
        encoding = self._encoding(file)
        with open_utf8(file, encoding) as source:
            is_marked = source.read(len(BOM_UTF8)) == BOM_UTF8 and self._start(file).lines_before > 0
            is_mixed = may_be_mixed(source)
        # DuckDB recognises a compressed file only by an extension in lower case.
        is_named_for_duckdb = file.endswith(split_ending(file)[1]) and not is_taken_for_glob(file)
        if encoding == UTF_8 and not is_mixed and not is_marked and is_named_for_duckdb:
            return file
        with open_utf8(file, encoding) as source, copy.open("wb") as target:
            if is_marked:
                source.read(len(BOM_UTF8))  # DuckDB does not detect it before skipped lines
            if is_mixed:
                target.writelines(with_one_line_end(source, self._start(file).delimiter))
            else:
                shutil.copyfileobj(source, target)
        return str(copy)

    def _start(self, file: str) -> CsvStart:
        if file not in self._starts:
            self._starts[file] = read_start(file, self._first_part(file))
        return self._starts[file]

    def _encoding(self, file: str) -> str:
        if file not in self._encodings:
            self._encodings[file] = encoding_of(file, self.encoding)
        return self._encodings[file]

    def _first_part(self, file: str) -> str:
        with open_utf8(file, self._encoding(file)) as opened:
            return opened.read(_LONGEST_HEADER).decode(UTF_8, "replace").removeprefix("\ufeff")

    def _find_rejects(self, read: Sequence[_Read]) -> None:
        """Set the rows that DuckDB has rejected in each file, and whether the file may have unclosed quotes."""
        query = """
            SELECT file_path, min(line_byte_position), arg_min(error_type, byte_position), any_value(error_message)
            FROM reject_errors JOIN reject_scans USING (scan_id, file_id) GROUP BY file_path, line ORDER BY 1, 2"""
        found = [(str(path), int(at), str(kind), str(why)) for path, at, kind, why in self._execute(query).fetchall()]
        for file in read:
            rejects = [reject for reject in found if reject[0] == file.path]
            lines = _lines_at(file.path, [at for _, at, *_ in rejects])
            file.rejects = [(number, kind, why) for (number, _), (*_, kind, why) in zip(lines, rejects, strict=True)]
            file.has_open_quotes = any(
                kind == "UNQUOTED VALUE" or is_open for (_, is_open), (*_, kind, _) in zip(lines, rejects, strict=True)
            )

    def _broken(self, read: Sequence[_Read]) -> list[BrokenRow]:
        broken: list[BrokenRow] = []
        for file in read:
            prefix = f"{Path(file.original).name} " if len(read) > 1 else ""
            reasons = _REASONS | {"INVALID ENCODING": not_in(self._encoding(file.original))}
            for line, kind, why in file.rejects:
                reason = file.open_quotes.get(line) or reasons.get(kind, why)
                broken.append(BrokenRow(f"{prefix}line {line}", f"{prefix}line {line}: {reason}"))
        return broken

    def _execute(self, query: str) -> Tables:
        return self.tables.execute(query)


def _lines_at(file: str, starts: Sequence[int]) -> list[tuple[int, bool]]:
    """Convert sorted byte positions, counted from 1, to line numbers.

    The line numbers of DuckDB do not count quoted line breaks.

    Returns:
        For each position, the number of its line, and whether the line has an unclosed quote.
    """
    found: list[tuple[int, bool]] = []
    line, passed = 1, 0
    if not starts:
        return found
    with open_file(file) as lines:
        for content in lines:
            # A position may be on the line breaks before the row, which then belong to the row.
            end = passed + len(content.rstrip(b"\r\n"))
            while len(found) < len(starts) and starts[len(found)] <= end and content.strip():
                found.append((line, content.count(b'"') % 2 == 1))
            passed += len(content)
            line += 1
    return found + [(line, False)] * (len(starts) - len(found))
