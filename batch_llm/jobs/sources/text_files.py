"""Text file sources: one row per file, with the columns id (the path within the folder), text and path."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator, Set
from pathlib import Path

from batch_llm.errors import JobError
from batch_llm.jobs.storage.duckdb_session import MAX_ROW_BYTES
from batch_llm.jobs.storage.paths import resolve

from .base import BrokenRow
from .file_paths import find_files, is_folder, is_glob, is_remote, split_glob
from .rows import RowSource
from .text_encoding import encoding_of, not_in, open_utf8

TEXT_ENDINGS = frozenset({".txt", ".text", ".md", ".markdown", ".rst", ".log", ".html", ".htm", ".xml", ".eml"})


class TextFilesSource(RowSource):
    """Rows of text files: a single file, a folder with its subfolders, or a glob."""

    def columns(self, wanted: Set[str]) -> tuple[str, ...]:
        """Return the names of the columns; see `Source.columns`."""
        self._files()
        return ("id", "text", "path")

    def _files(self) -> list[str]:
        if is_remote(self.place) or not is_folder(self.place):
            return find_files(self.tables, self.place)
        folder = resolve(self.place)
        files = [str(path) for path in sorted(folder.rglob("*")) if _is_text(path, folder)]
        if not files:
            raise JobError(f"{folder} has no text files ({', '.join(sorted(TEXT_ENDINGS))}): check source")
        return files

    def rows(self) -> Iterator[dict[str, str] | BrokenRow]:
        """Yield the rows and the broken rows; see `RowSource.rows`."""
        base = self._base()
        for file in self._files():
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

    def _base(self) -> str:
        """Return the folder that ids are relative to: the part of the place before the first wildcard."""
        if is_remote(self.place):
            return self.place.rpartition("/")[0]
        path = resolve(self.place)
        if not is_glob(self.place):
            return str(path if path.is_dir() else path.parent)
        return str(split_glob(self.place)[0])


def _row(named: str, file: str, content: bytes, encoding: str) -> dict[str, str] | BrokenRow:
    if len(content) > MAX_ROW_BYTES:
        return BrokenRow(named, f"{named} is longer than {MAX_ROW_BYTES // 1024**2} MB")
    try:
        return {"id": named, "text": content.decode(), "path": file}
    except UnicodeDecodeError as error:
        return BrokenRow(named, f"{named}, byte {error.start + 1}, is {not_in(encoding)}")


def _is_text(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in TEXT_ENDINGS and not hidden and path.is_file()
