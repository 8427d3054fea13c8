"""A folder of files as an output, partitioned by columns in Hive's layout: `out.csv/topic=billing/data_0.csv`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from batch_llm.errors import JobError
from batch_llm.jobs.storage.duckdb_session import Tables, column_types, name
from batch_llm.jobs.storage.paths import resolve
from batch_llm.jobs.storage.replacing import copy_modes_and_owners, target_of
from batch_llm.jobs.storage.scratch import remove_left_folders, scratch_folder

from .base import Sink, nothing
from .files import check_writable, copy, joined, scratch_prefix, write
from .folder_names import FolderName, bytes_for_values, folder_names, ignores_case
from .output_columns import added_column_names, for_json, without_formula
from .output_place import OutputPlace

_OLD = "old"


class FolderSink(Sink):
    """A local folder of partitioned files; while it is replaced, the folder does not exist for an instant."""

    def __init__(self, output: OutputPlace, *, escape: bool = False) -> None:
        """Write to a folder.

        Args:
            output: The folder, and the columns whose values name the folders in it.
            escape: Whether a value that is written because its folder has another name is kept from being a formula.
        """
        self._output = output
        self._path = target_of(resolve(output.place))
        self._columns = tuple(dict.fromkeys(output.partition_by))
        self._escape = escape

    def check(self, columns: Iterable[str]) -> None:
        """Check that the output can be written; see `Sink.check`."""
        check_writable(str(self._path.with_suffix(".check")))
        bytes_for_values(self._path, self._columns)
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
        """Whether the output exists, also if a process was killed while it replaced the output; see `Sink.exists`."""
        if not self._path.exists():
            remove_left_folders(self._path.parent, scratch_prefix(self._path), self._salvage)
        return self._path.exists()

    def write(self, tables: Tables, queries: Sequence[str], before: Callable[[], None] = nothing) -> str:
        """Replace the output by the rows of queries; see `Sink.write`."""
        try:
            with scratch_folder(self._path.parent, scratch_prefix(self._path), self._salvage) as folder:
                made = folder / f"rows{self._output.ending}{self._output.packing}"
                self._copy(tables, joined(tables, queries, folder), made)
                self._check_old()
                copy_modes_and_owners(made, self._path)
                before()
                if self._path.exists():
                    self._path.rename(folder / _OLD)
                made.rename(self._path)
        except OSError as error:
            raise JobError(f"output {self._path} cannot be written: {error}") from error
        return str(self._path)

    def _salvage(self, left: Path) -> None:
        """Restore the old output, if a process was killed after moving it away and before moving the new one in."""
        if (left / _OLD).exists() and not self._path.exists():
            (left / _OLD).rename(self._path)

    def _copy(self, tables: Tables, query: str, made: Path) -> None:
        ending, packing = self._output.ending, self._output.packing
        named = ", ".join(map(name, self._columns))
        options = f"PARTITION_BY ({named}), FILE_EXTENSION '{ending[1:]}{packing}'"
        columns = column_types(tables, query)
        # In the name of a folder, a text in a JSON column has no quotes.
        kinds = {column: columns[column] for column in self._columns}
        bytes_for = bytes_for_values(self._path, self._columns)
        same_case = ignores_case(made.parent)
        folders = list(folder_names(tables, query, kinds, bytes_for, ignores_case=same_case))
        parts = ", ".join(f"{folder.label} AS {name(folder.column)}" for folder in folders)
        if ending != ".jsonl":
            whole = self._whole_values(columns, folders, escape=self._escape and ending == ".csv")
            rows = f"SELECT * EXCLUDE ({named}){whole}, {parts} FROM ({query})"
            copy(tables, rows, made, ending, packing=packing, more=options)
            return
        # DuckDB does not support partitioned JSON: the lines are written as a CSV file with one column.
        row, line = map(name, added_column_names(columns, ("row", "line")).values())
        values = f"SELECT {', '.join(for_json(columns))} FROM ({query})"
        lines = f"SELECT to_json({row}) AS {line}, {parts} FROM ({values}) AS {row}"
        write(
            tables, lines, made, f"FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER E'\\n', {options}", packing
        )

    def _whole_values(self, columns: Iterable[str], folders: Sequence[FolderName], *, escape: bool) -> str:
        """Return SQL for columns with the values that name no folder; the files have no column that names folders."""
        added = {folder.column: folder.shortened for folder in folders if folder.shortened}
        called = added_column_names(columns, [f"{column}_in_full" for column in added])
        values = [without_formula(value) if escape else value for value in added.values()]
        return "".join(f", {value} AS {name(new)}" for value, new in zip(values, called.values(), strict=True))

    def remove(self) -> None:
        """Remove the output, if it exists, and what killed processes left of it; see `Sink.remove`."""
        shutil.rmtree(self._path, ignore_errors=True)
        remove_left_folders(self._path.parent, scratch_prefix(self._path))
