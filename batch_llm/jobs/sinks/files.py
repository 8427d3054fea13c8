"""Files as outputs; to add a format, add its extension to `_FORMATS`."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

import zstandard

from batch_llm.errors import JobError
from batch_llm.jobs.sources.file_paths import file_system, is_remote
from batch_llm.jobs.storage.duckdb_session import Tables, column_types, execute, file_text, text, write_parquet
from batch_llm.jobs.storage.formats import PACKINGS
from batch_llm.jobs.storage.paths import resolve
from batch_llm.jobs.storage.replacing import check_replaceable, copy_mode_and_owner, target_of
from batch_llm.jobs.storage.scratch import remove_left_folders, scratch_folder

from .base import Sink, nothing
from .output_columns import flat, for_json
from .output_place import OutputPlace

_FORMATS = {
    ".jsonl": "FORMAT json",
    ".csv": "FORMAT csv",
    ".parquet": "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 4096",
}
_VALUES = {".jsonl": for_json, ".csv": flat}


class FileSink(Sink):
    """A local file or a file at a URL, in the format of its extension.

    Args:
        output: Path or URL of the file, its format and compression.
    """

    def __init__(self, output: OutputPlace) -> None:
        self._output = output
        self._place = output.place

    def check(self, columns: Iterable[str]) -> None:
        """Check that the output can be written; see `Sink.check`."""
        check_writable(self._place)

    def exists(self) -> bool:
        """Whether the output exists; see `Sink.exists`."""
        if not is_remote(self._place):
            return os.path.lexists(resolve(self._place))
        try:
            return bool(file_system(self._place).exists(self._place))
        except Exception as error:  # every file system has its own exceptions
            raise JobError(f"output {self._place} cannot be reached: {error}") from error

    def write(self, tables: Tables, queries: Sequence[str], before: Callable[[], None] = nothing) -> str:
        """Replace the output by the rows of queries; see `Sink.write`."""
        try:
            with _whole_file(self._output, before) as (path, final):
                if self._output.ending == ".parquet":
                    write_parquet(tables, joined(tables, queries, path.parent), path, compression="zstd")
                else:
                    _write_text(tables, queries, path, self._output)
        except OSError as error:
            raise JobError(f"output {self._place} cannot be written: {error}") from error
        return final

    def remove(self) -> None:
        """Remove the output, if it exists, and what killed processes left of it; see `Sink.remove`."""
        if is_remote(self._place):
            with suppress(FileNotFoundError):
                file_system(self._place).rm_file(self._place)
        else:
            target_of(resolve(self._place)).unlink(missing_ok=True)
        final = _final_path(self._place)
        remove_left_folders(final.parent, scratch_prefix(final))


def copy(
    tables: Tables, query: str, path: Path, ending: str, *, header: bool = True, packing: str = "", more: str = ""
) -> None:
    """Write the rows of a query to a path, in the format of an extension.

    Args:
        tables: The session.
        query: The query.
        path: The file to write.
        ending: Extension of the format.
        header: Whether a CSV file gets a header.
        packing: Extension of the compression; empty for none.
        more: Further options of DuckDB's COPY.
    """
    options = [_FORMATS[ending]]
    if ending in _VALUES:
        query = f"SELECT {', '.join(_VALUES[ending](column_types(tables, query)))} FROM ({query})"
    if ending == ".csv":
        options.append(f"HEADER {header}")
    write(tables, query, path, ", ".join([*options, more] if more else options), packing)


def write(tables: Tables, query: str, path: Path, options: str, packing: str = "") -> None:
    """Write the rows of a query with options of DuckDB's COPY.

    Args:
        tables: The session.
        query: The query.
        path: The file to write.
        options: Options of COPY, in SQL.
        packing: Extension of the compression; empty for none.
    """
    packed = f", COMPRESSION {PACKINGS[packing]}" if packing else ""
    execute(tables, f"COPY ({query}) TO {text(path)} ({options}{packed})")


def _write_text(tables: Tables, queries: Sequence[str], path: Path, output: OutputPlace) -> None:
    part = path.with_name(f"{path.name}.part")
    with _packed(path, output.packing) as file:
        for number, query in enumerate(queries):
            copy(tables, query, part, output.ending, header=number == 0)
            with part.open("rb") as rows:
                shutil.copyfileobj(rows, file)
            part.unlink()


def joined(tables: Tables, queries: Sequence[str], folder: Path) -> str:
    """Return one query for the rows of several queries, which are first written to files in `folder`."""
    if len(queries) == 1:
        return queries[0]
    parts = [folder / f"part-{number}" for number, _ in enumerate(queries)]
    for query, part in zip(queries, parts, strict=True):
        write_parquet(tables, query, part)
    return f"FROM read_parquet([{', '.join(map(file_text, parts))}])"


@contextmanager
def _packed(path: Path, packing: str) -> Generator[IO[bytes]]:
    with path.open("wb") as file:
        if packing == ".gz":
            with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6) as packed:
                yield cast("IO[bytes]", packed)
        elif packing == ".zst":
            with zstandard.ZstdCompressor().stream_writer(file, closefd=False) as packed:
                yield cast("IO[bytes]", packed)
        else:
            yield file


def check_writable(place: str, *, setting: str = "output") -> None:
    """Check that a file can be written at a place, and create its folder.

    Args:
        place: Path or URL of the file.
        setting: Name of the setting, for the message.

    Raises:
        JobError: The file cannot be written.
    """
    if is_remote(place):
        file_system(place)
        return
    try:
        path = target_of(resolve(place))
        if path.is_dir():
            raise JobError(f"{setting} {path} is a folder: name a file in the folder")
        check_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except ValueError as error:
        raise JobError(f"{setting} {place!r} is not a valid file name: {error}") from error
    except OSError as error:
        raise JobError(f"{setting} {place} cannot be written: {error.strerror or error}") from error


@contextmanager
def _whole_file(output: OutputPlace, before: Callable[[], None]) -> Generator[tuple[Path, str]]:
    """Provide a temporary path to write to; the file is moved to `place` when the context exits without an error.

    Yields:
        The temporary path, and the final path or URL for messages.
    """
    place, like, remote = output.place, output.like, is_remote(output.place)
    final = _final_path(place)
    if not remote:
        check_replaceable(final)
    final.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(final.parent, scratch_prefix(final)) as folder:
        path = folder / f"rows{output.ending}{output.packing}"
        yield path, place if remote else str(resolve(place))
        if remote:
            before()
            file_system(place).put_file(str(path), place)
        else:
            copy_mode_and_owner(path, final if final.exists() or not like else target_of(resolve(like)))
            before()
            path.replace(final)


def _final_path(place: str) -> Path:
    """Return the path of an output, next to which it is written first; one in the temporary folder for a URL."""
    return Path(tempfile.gettempdir()) / Path(place).name if is_remote(place) else target_of(resolve(place))


def scratch_prefix(final: Path) -> str:
    """Return the prefix of a file's scratch folders; it is short, because the file's own name may have any length."""
    return f".batch-llm-{hashlib.sha256(os.fsencode(final.name)).hexdigest()[:12]}-"
