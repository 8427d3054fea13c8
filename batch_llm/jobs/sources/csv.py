"""CSV: every value stays the text that stands in the file; a broken row is told by its line."""

from __future__ import annotations

import csv
import re
import shutil
import tempfile
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from batch_llm.errors import JobError
from batch_llm.jobs.endings import split_ending
from batch_llm.jobs.tables import MAX_ROW_BYTES, text

from .base import BrokenRow, Source
from .encodings import UTF_8, encoding_of, not_in, open_utf8
from .line_ends import may_be_mixed, with_one_line_end
from .names import unique_names
from .places import find_files, open_file

_LONGEST_HEADER = 1024 * 1024
# A quote opens a field at its beginning alone; a field in quotes may have line breaks, as those of spreadsheets do.
_HEADER = re.compile(r'(?:(?:^|(?<=[,;\t|]))"[^"]*+(?:""[^"]*+)*+"|[^\r\n])*+')
_LINE_BREAK = re.compile(r"\s*[\r\n]\s*")
_REASONS = {
    "TOO MANY COLUMNS": "it has more columns than the header",
    "MISSING COLUMNS": "it has fewer columns than the header",
    "UNQUOTED VALUE": "a quote is not closed",
    "LINE SIZE OVER MAXIMUM": f"it is longer than {MAX_ROW_BYTES // 1024**2} MB",
}


class CsvSource(Source):
    """One or several .csv or .tsv files with the same header line."""

    def columns(self, wanted: Set[str]) -> tuple[str, ...]:
        files = find_files(self.tables, self.place)
        header = self._header(files[0])
        for file in files[1:]:
            if self._header(file) != header:
                raise JobError(f"{file} has another header than {files[0]}: run them as jobs of their own")
        names = next(csv.reader([header], delimiter=_delimiter(files[0], header)))
        return unique_names(_LINE_BREAK.sub(" ", name.strip()) for name in names)

    def stage(self, rows: Path, limit: int | None) -> list[BrokenRow]:
        files = find_files(self.tables, self.place)
        types = ", ".join(f"{text(column)}: 'VARCHAR'" for column in self.columns(frozenset()))
        delimiter = text(_delimiter(files[0], self._header(files[0])))
        with tempfile.TemporaryDirectory(prefix="utf-8-", dir=rows.parent) as folder:
            originals = {
                self._readable(file, Path(folder) / f"{number}.csv"): file for number, file in enumerate(files)
            }
            query = (
                f"SELECT * FROM read_csv([{', '.join(map(text, originals))}], auto_detect=false, header=true, "
                f"columns={{{types}}}, delim={delimiter}, quote='\"', escape='\"', allow_quoted_nulls=false, "
                f"max_line_size={MAX_ROW_BYTES}, buffer_size={MAX_ROW_BYTES}, store_rejects=true)"
            )
            self.write_numbered(query, rows, limit)
            return self._rejected(originals)

    def _readable(self, file: str, copy: Path) -> str:
        """Return a file that DuckDB reads: this one, or a copy in UTF-8 whose rows end in one way."""
        encoding = encoding_of(file, self.encoding)
        with open_utf8(file, encoding) as source:
            is_mixed = may_be_mixed(source)
        # DuckDB sees by an ending in small letters alone that a file is packed.
        if encoding == UTF_8 and not is_mixed and file.endswith(split_ending(file)[1]):
            return file
        with open_utf8(file, encoding) as source, copy.open("wb") as target:
            if is_mixed:
                target.writelines(with_one_line_end(source, _delimiter(file, self._header(file))))
            else:
                shutil.copyfileobj(source, target)
        return str(copy)

    def _header(self, file: str) -> str:
        with open_utf8(file, encoding_of(file, self.encoding)) as opened:
            start = opened.read(_LONGEST_HEADER)
        header = _HEADER.match(start.decode(UTF_8, "replace").removeprefix("\ufeff"))
        if header is None or not header[0].strip():
            raise JobError(f"{file} is empty: check source")
        return header[0]

    def _rejected(self, originals: Mapping[str, str]) -> list[BrokenRow]:
        query = """
            SELECT file_path, min(line_byte_position), arg_min(error_type, byte_position), any_value(error_message)
            FROM reject_errors JOIN reject_scans USING (scan_id, file_id) GROUP BY file_path, line ORDER BY 1, 2"""
        rejects = [(str(file), int(at), str(kind), str(why)) for file, at, kind, why in self._all(query)]
        broken: list[BrokenRow] = []
        for file in dict.fromkeys(file for file, *_ in rejects):
            found = [(at, kind, why) for place, at, kind, why in rejects if place == file]
            original = originals[file]
            prefix = f"{Path(original).name} " if len(originals) > 1 else ""
            reasons = _REASONS | {"INVALID ENCODING": f"it is {not_in(encoding_of(original, self.encoding))}"}
            for line, (_, kind, why) in zip(_line_numbers(file, [at for at, *_ in found]), found, strict=True):
                broken.append(BrokenRow(f"{prefix}line {line}", f"{prefix}line {line}: {reasons.get(kind, why)}"))
        return broken

    def _all(self, query: str) -> list[tuple[Any, ...]]:
        return self.tables.execute(query).fetchall()


def _line_numbers(file: str, starts: list[int]) -> list[int]:
    """Turn sorted byte positions, from 1, into line numbers; DuckDB's own count takes a quoted line break for none."""
    numbers: list[int] = []
    line, passed = 1, 0
    with open_file(file) as lines:
        for content in lines:
            passed += len(content)
            # A position may lie on the line breaks before the row; those count for the row.
            while len(numbers) < len(starts) and starts[len(numbers)] <= passed and content.strip():
                numbers.append(line)
            line += 1
    return numbers + [line] * (len(starts) - len(numbers))


def _delimiter(file: str, header: str) -> str:
    if Path(file).name.split(".")[1:2] == ["tsv"]:
        return "\t"
    outside_quotes = "".join(header.split('"')[::2])
    return max(",;\t|", key=outside_quotes.count)
