"""Text files: one row a file, with the columns id (its path within the folder), text and path."""

from __future__ import annotations

import codecs
import glob
from collections.abc import Iterator, Set
from itertools import islice, takewhile
from pathlib import Path, PurePosixPath

from batch_llm.errors import JobError
from batch_llm.jobs.files import to_json
from batch_llm.jobs.project import resolve
from batch_llm.jobs.tables import MAX_ROW_BYTES, text

from .base import BrokenRow, Source
from .places import find_files, is_glob, is_remote, open_file

TEXT_ENDINGS = frozenset({".txt", ".text", ".md", ".markdown", ".rst", ".log", ".html", ".htm", ".xml", ".eml"})
_ENCODINGS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class TextFilesSource(Source):
    """A text file, a folder of them with its subfolders, or a glob."""

    def columns(self, wanted: Set[str]) -> tuple[str, ...]:
        self._files()
        return ("id", "text", "path")

    def stage(self, rows: Path, limit: int | None) -> list[BrokenRow]:
        broken: list[BrokenRow] = []
        staged = rows.with_suffix(".texts.jsonl")
        with staged.open("w", encoding="utf-8") as file:
            for found in islice(self._read(), limit):
                if isinstance(found, BrokenRow):
                    broken.append(found)
                else:
                    file.write(to_json(found) + "\n")
        columns = "{'id': 'VARCHAR', 'text': 'VARCHAR', 'path': 'VARCHAR'}"
        size = f"maximum_object_size={MAX_ROW_BYTES}"
        query = f"SELECT * FROM read_json({text(staged)}, format='newline_delimited', columns={columns}, {size})"
        self.write_numbered(query, rows, limit)
        staged.unlink()
        return broken

    def _files(self) -> list[str]:
        folder = resolve(self.place)
        if is_remote(self.place) or not folder.is_dir():
            return find_files(self.tables, self.place)
        files = [str(path) for path in sorted(folder.rglob("*")) if _is_text(path, folder)]
        if not files:
            raise JobError(f"{folder} has no text files ({', '.join(sorted(TEXT_ENDINGS))}): check source")
        return files

    def _read(self) -> Iterator[dict[str, str] | BrokenRow]:
        base = self._base()
        for file in self._files():
            named = file.removeprefix(f"{base}/")
            try:
                with open_file(file) as opened:
                    content = opened.read()
                mark = next((mark for mark in _ENCODINGS if content.startswith(mark)), b"")
                yield {"id": named, "text": content.decode(_ENCODINGS.get(mark, "utf-8")), "path": file}
            except UnicodeDecodeError as error:
                yield BrokenRow(named, f"{named} is not UTF-8, at byte {error.start + 1}")
            except OSError as error:
                yield BrokenRow(named, f"{named} cannot be read: {error.strerror or error}")

    def _base(self) -> str:
        """The folder that ids are relative to: everything before the first wildcard."""
        if is_remote(self.place):
            return self.place.rpartition("/")[0]
        path = resolve(self.place)
        if not is_glob(self.place):
            return str(path if path.is_dir() else path.parent)
        return str(PurePosixPath(*takewhile(lambda part: not glob.has_magic(part), path.parts)))


def _is_text(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in TEXT_ENDINGS and not hidden and path.is_file()
