"""A folder of files, one for each value of some columns: `out.csv/topic=billing/data_0.csv`, as Hive has it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from batch_llm.errors import JobError
from batch_llm.jobs.storage.duckdb_session import Tables, column_types, name
from batch_llm.jobs.storage.formats import split_ending
from batch_llm.jobs.storage.paths import resolve
from batch_llm.jobs.storage.replacing import target_of, wear_all
from batch_llm.jobs.storage.scratch import scratch_folder

from .base import Sink, nothing
from .files import check_writable, copy, joined, left_by, write
from .output_columns import flat, for_json, named_beside

_OLD = "old"


class FolderSink(Sink):
    """A local folder; between two of its states there is, for an instant, none."""

    def __init__(self, place: str, partition_by: Sequence[str]) -> None:
        self._path = target_of(resolve(place))
        self._columns = tuple(dict.fromkeys(partition_by))

    def check(self, columns: Iterable[str]) -> None:
        check_writable(str(self._path.with_suffix(".check")))
        self._check_old()

    def _check_old(self) -> None:
        if not self._path.exists():
            return
        if not self._path.is_dir():
            raise JobError(f"output {self._path} is a file, and partition_by makes a folder: remove it or name another")
        for found in self._path.iterdir():
            if "=" not in found.name:
                raise JobError(f"output {self._path} would be replaced, and has {found.name} in it: name a new folder")

    def exists(self) -> bool:
        return self._path.exists()

    def write(self, tables: Tables, queries: Sequence[str], before: Callable[[], None] = nothing) -> str:
        try:
            with scratch_folder(self._path.parent, left_by(self._path), self._salvage) as folder:
                made = folder / f"rows{''.join(split_ending(self._path.name))}"
                self._copy(tables, joined(tables, queries, folder), made)
                self._check_old()
                wear_all(made, self._path)
                before()
                if self._path.exists():
                    self._path.rename(folder / _OLD)
                made.rename(self._path)
        except OSError as error:
            raise JobError(f"output {self._path} cannot be written: {error}") from error
        return str(self._path)

    def _salvage(self, left: Path) -> None:
        """Put back what a process was killed over between taking the old folder away and putting the new one there."""
        if (left / _OLD).exists() and not self._path.exists():
            (left / _OLD).rename(self._path)

    def _copy(self, tables: Tables, query: str, made: Path) -> None:
        ending, packing = split_ending(made.name)
        named = ", ".join(map(name, self._columns))
        options = f"PARTITION_BY ({named}), FILE_EXTENSION '{ending[1:]}{packing}'"
        columns = column_types(tables, query)
        # In the name of a folder, text in a column of JSON is that text, without quotes.
        parts = ", ".join(flat({column: columns[column] for column in self._columns}))
        if ending != ".jsonl":
            copy(tables, f"SELECT * EXCLUDE ({named}), {parts} FROM ({query})", made, packing=packing, more=options)
            return
        # DuckDB partitions no JSON, and writes it as a CSV of one column itself.
        row, line = map(name, named_beside(columns, ("row", "line")).values())
        values = f"SELECT {', '.join(for_json(columns))} FROM ({query})"
        lines = f"SELECT to_json({row}) AS {line}, {parts} FROM ({values}) AS {row}"
        write(
            tables, lines, made, f"FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER E'\\n', {options}", packing
        )

    def remove(self) -> None:
        shutil.rmtree(self._path, ignore_errors=True)
