"""A folder of files, one for each value of some columns: `out.csv/topic=billing/data_0.csv`, as Hive has it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from batch_llm.errors import JobError
from batch_llm.jobs.endings import split_ending
from batch_llm.jobs.project import resolve
from batch_llm.jobs.tables import Tables, column_types, name

from .base import Sink
from .columns import flat, for_json, named_beside
from .files import check_writable, copy, joined, write


class FolderSink(Sink):
    """A local folder; between two of its states there is, for an instant, none."""

    def __init__(self, place: str, partition_by: Sequence[str]) -> None:
        self._path = resolve(place)
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

    def write(self, tables: Tables, queries: Sequence[str]) -> str:
        try:
            with tempfile.TemporaryDirectory(prefix=f".{self._path.stem}-", dir=self._path.parent) as folder:
                made = Path(folder) / self._path.name
                self._copy(tables, joined(tables, queries, Path(folder)), made)
                self._check_old()
                if self._path.exists():
                    self._path.rename(Path(folder) / "old")
                made.rename(self._path)
        except OSError as error:
            raise JobError(f"output {self._path} cannot be written: {error}") from error
        return str(self._path)

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
