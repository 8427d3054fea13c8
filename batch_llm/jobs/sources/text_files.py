"""Text file sources: one row per file, with the columns id (the path within the folder), text and path."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator, Set

from batch_llm.errors import JobError
from batch_llm.jobs.storage.duckdb_session import MAX_ROW_BYTES

from .base import BrokenRow
from .file_paths import base_of
from .file_selection import FilesSource
from .rows import RowSource
from .text_encoding import encoding_of, not_in, open_utf8

TEXT_ENDINGS = frozenset({".txt", ".text", ".md", ".markdown", ".rst", ".log", ".html", ".htm", ".xml", ".eml"})


class TextFilesSource(FilesSource, RowSource):
    """Rows of text files: a single file, a folder with its subfolders, or a glob."""

    endings = TEXT_ENDINGS
    kind = "text files"

    def columns(self, wanted: Set[str]) -> tuple[str, ...]:
        """Return the names of the columns; see `Source.columns`."""
        _ = self.files  # raises if there are none
        return ("id", "text", "path")

    def count(self) -> int:
        """Return the number of files; see `Source.count`."""
        return len(self.files)

    def rows(self) -> Iterator[dict[str, str] | BrokenRow]:
        """Yield the rows and the broken rows; see `RowSource.rows`."""
        base = base_of(self.place)
        for file in self.files:
            named = file.removeprefix(f"{base}/")
            try:
                encoding = encoding_of(file, self.encoding)
                with open_utf8(file, encoding) as opened:
                    content = opened.read(MAX_ROW_BYTES + 1).removeprefix(BOM_UTF8)
            except OSError as error:
                yield BrokenRow(named, f"{named} cannot be read: {error.strerror or error}")
            except JobError as error:
                yield BrokenRow(named, str(error))
            else:
                yield _row(named, file, content, encoding)


def _row(named: str, file: str, content: bytes, encoding: str) -> dict[str, str] | BrokenRow:
    if len(content) > MAX_ROW_BYTES:
        return BrokenRow(named, f"{named} is longer than {MAX_ROW_BYTES // 1024**2} MB")
    try:
        return {"id": named, "text": content.decode(), "path": file}
    except UnicodeDecodeError as error:
        return BrokenRow(named, f"{named}, byte {error.start + 1}, is {not_in(encoding)}")
