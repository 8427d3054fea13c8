"""Base class of the sources that read files: which files are read, and which files of other kinds are left out."""

from __future__ import annotations

from abc import ABC
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from batch_llm.errors import JobError
from batch_llm.jobs.storage.formats import split_ending

from .base import Source
from .file_paths import base_of, check_readable, files_at, is_folder, is_glob, is_remote, register_file_system

_MOST_NAMES, _MOST_KINDS = 5, 6
_LONGEST_NAME = 100


class FilesSource(Source, ABC):
    """Source of one or several files.

    Attributes:
        endings: Extensions of the files that are read, without the extension of a compression.
        kind: Name of the files in messages.
    """

    endings: frozenset[str]
    kind: str

    @cached_property
    def files(self) -> list[str]:
        """The files to read, sorted, as `readable_name` and `open_file` take them.

        Raises:
            JobError: There are no such files, or a file cannot be read.
        """
        chosen = [file for file in self._found if self._is_chosen(file)]
        if not chosen:
            others = f"; it has {counted_files(self._names(self._found))}" if self._found else ""
            raise JobError(f"{self.place} has no {self.kind} ({', '.join(sorted(self.endings))}){others}: check source")
        if is_remote(self.place):
            register_file_system(self.tables, self.place)
        elif not is_folder(self.place):  # in a folder, a file that cannot be read is a broken row
            for file in chosen:
                check_readable(Path(file))
        return chosen

    def warnings(self) -> list[str]:
        """Return a sentence on the files of other kinds; see `Source.warnings`."""
        left_out = [file for file in self._found if not self._is_chosen(file)]
        return [left_out_sentence(self._names(left_out))] if left_out else []

    def size(self) -> int | None:
        """Return the size of the files in bytes; see `Source.size`."""
        return None if is_remote(self.place) else sum(Path(file).stat().st_size for file in self.files)

    @cached_property
    def _found(self) -> list[str]:
        return files_at(self.place)

    def _is_chosen(self, file: str) -> bool:
        selects = is_folder(self.place) or is_glob(self.place) or is_remote(self.place)
        return not selects or split_ending(file)[0] in self.endings

    def _names(self, files: Sequence[str]) -> list[str]:
        base = base_of(self.place)
        names = [file.removeprefix(f"{base}/") for file in files]
        return [name.rpartition("/")[2] if is_remote(name) else name for name in names]


def left_out_sentence(names: Sequence[str]) -> str:
    """Return a sentence on files that a source does not read.

    Args:
        names: Names of the files.

    Example:
        >>> left_out_sentence(["p.png", "d.pdf"])
        '2 files left out: 1 .pdf, 1 .png (d.pdf, p.png)'
    """
    return f"{len(names):,} file{'s' if len(names) != 1 else ''} left out: {counted_files(names)}"


def counted_files(names: Sequence[str]) -> str:
    """Return how many files have which extension, the most frequent first, and the first names.

    Example:
        >>> counted_files(["b.png", "a.png", "d.pdf"])
        '2 .png, 1 .pdf (a.png, b.png, d.pdf)'
    """
    found = Counter("".join(split_ending(name)) or "without extension" for name in names)
    kinds = [f"{count:,} {kind}" for kind, count in sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))]
    shown = [" ".join(name.split())[:_LONGEST_NAME] for name in sorted(names)]
    return f"{_first(kinds, _MOST_KINDS, 'kinds')} ({_first(shown, _MOST_NAMES)})"


def _first(parts: Sequence[str], most: int, what: str = "") -> str:
    rest = len(parts) - most
    more = [f"{rest:,} more {what}".rstrip()] if rest > 0 else []
    return ", ".join([*parts[:most], *more])
