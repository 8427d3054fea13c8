"""What a job can write: a new format is a line here. A file appears whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch_llm.errors import JobError

from .project import resolve
from .schemas import answer_columns
from .sources.places import file_system, is_remote
from .tables import Tables, column_types, is_nested, name, text

_FORMATS = {
    ".jsonl": "FORMAT json",
    ".csv": "FORMAT csv, HEADER",
    ".parquet": "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 4096",
}
BOOKKEEPING = (
    "status",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "attempts",
    "seconds",
    "error_category",
    "error",
)


@dataclass(frozen=True, slots=True)
class OutputColumns:
    """How the columns that we add are called beside the input's.

    Attributes:
        answer: The answer's fields: their column and its DuckDB type.
        bookkeeping: Our own columns, `item_id` among them where the input has none.
        notes: A sentence for each that had to give way.
    """

    answer: dict[str, tuple[str, str]]
    bookkeeping: dict[str, str]
    notes: tuple[str, ...]


def output_columns(columns: Iterable[str], schema: dict[str, Any] | None) -> OutputColumns:
    """Name the added columns: where the input has a column of that name, ours is called `answer_<name>`."""
    taken = {column.lower() for column in columns}
    ours = [column for column in ("item_id", *BOOKKEEPING) if column != "item_id" or column not in taken]
    bookkeeping = {column: _free(column, taken) for column in ours}
    answer = {field: (_free(field, taken), kind) for field, kind in answer_columns(schema).items()}
    renamed = [*bookkeeping.items(), *((field, column) for field, (column, _) in answer.items())]
    notes = [f"The column {old!r} of the answer is called {new!r}." for old, new in renamed if old != new]
    return OutputColumns(answer, bookkeeping, tuple(notes))


def _free(column: str, taken: set[str]) -> str:
    free = column
    while free.lower() in taken:
        free = f"answer_{free}"
    taken.add(free.lower())
    return free


def failures_path(output: str) -> str:
    """Return where the failures of a run go: out.jsonl has out.failures.jsonl."""
    stem, _, ending = output.rpartition(".")
    return f"{stem}.failures.{ending}"


def check_writable(place: str, *, setting: str = "output") -> None:
    """See that a file can be made at a place, and make its folder.

    Raises:
        JobError: It cannot.
    """
    if is_remote(place):
        file_system(place)
        return
    path = resolve(place)
    if path.is_dir():
        raise JobError(f"{setting} {path} is a folder: name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise JobError(f"{setting} {path} cannot be written: {error.strerror or error}") from error


def write_table(tables: Tables, query: str, place: str) -> str:
    """Write the rows of a query to a file, in the format of its ending.

    Returns:
        The file's full path.

    Raises:
        JobError: It cannot be written.
    """
    ending = Path(place).suffix.lower()
    if ending == ".csv":
        query = f"SELECT {', '.join(_flat(column_types(tables, query)))} FROM ({query})"
    try:
        with _whole_file(place) as (path, final):
            tables.execute(f"COPY ({query}) TO {text(path)} ({_FORMATS[ending]})")
    except OSError as error:
        raise JobError(f"output {place} cannot be written: {error}") from error
    return final


def remove_file(place: str) -> None:
    """Remove a file that an earlier run wrote, if there is one."""
    if is_remote(place):
        with suppress(FileNotFoundError):
            file_system(place).rm(place)
    else:
        resolve(place).unlink(missing_ok=True)


@contextmanager
def _whole_file(place: str) -> Generator[tuple[Path, str]]:
    """Give a path to write to; what is written there appears at `place` when all is well."""
    remote = is_remote(place)
    final = Path(tempfile.gettempdir()) / Path(place).name if remote else resolve(place)
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{final.stem}-", dir=final.parent) as folder:
        path = Path(folder) / final.name
        yield path, place if remote else str(final)
        if remote:
            file_system(place).put_file(str(path), place)
        else:
            path.replace(final)


def _flat(columns: Mapping[str, str]) -> Iterator[str]:
    """SQL for values in one cell of text: nested ones are JSON."""
    for column, kind in columns.items():
        value = name(column)
        if kind == "JSON":
            yield f"CASE json_type({value}) WHEN 'VARCHAR' THEN {value}->>'$' ELSE {value}::VARCHAR END AS {value}"
        elif is_nested(kind):
            yield f"to_json({value})::VARCHAR AS {value}"
        else:
            yield value
