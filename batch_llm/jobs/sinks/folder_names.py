"""Values as names of folders: one folder for each value, also where a file system cannot store a value as a name.

DuckDB encodes a value as in a URL, so `/`, NUL and letters outside ASCII need no care. Three kinds of value do: one
whose encoded name is too long, text that DuckDB writes for null, and, on a file system that ignores case, values that
differ in nothing else. Their folders are named after the first characters of the value and a hash of all of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from batch_llm.errors import JobError
from batch_llm.jobs.storage.duckdb_session import Tables, execute, is_nested, name

from .output_columns import flat

_HASH = 16
_LEAST = 64
"""Bytes that a value needs: some characters and the hash."""
_BESIDE = 128
"""Bytes of a path for the folder that an output is written in, and for the name of a file."""
_LOOKS_SHORTENED = f"(?is).*~[0-9a-f]{{{_HASH}}}"
_NULL = "__hive_default_partition__"


@dataclass(frozen=True, slots=True)
class FolderName:
    """How a column of `partition_by` is written.

    Attributes:
        column: The column.
        label: SQL for the value that names the folder.
        shortened: SQL for the whole value of a row whose folder has another name, else null; empty where there is
            no such row.
    """

    column: str
    label: str
    shortened: str = ""


def folder_names(
    tables: Tables, query: str, kinds: Mapping[str, str], bytes_for: Mapping[str, int], *, ignores_case: bool
) -> Iterator[FolderName]:
    """Yield how each column that names folders is written.

    Args:
        tables: The session.
        query: The rows.
        kinds: The columns and their DuckDB types.
        bytes_for: The longest encoded value of each column.
        ignores_case: Whether names that differ in case alone are the same on the file system.
    """
    for number, ((column, kind), cell) in enumerate(zip(kinds.items(), flat(kinds), strict=True)):
        value = cell.removesuffix(f" AS {name(column)}")
        if not (kind in ("VARCHAR", "JSON", "BLOB") or kind.startswith("ENUM") or is_nested(kind)):
            yield FolderName(column, value)
            continue
        value = f"CAST({value} AS VARCHAR)"
        longest = bytes_for[column]
        odd = (
            f"strlen(url_encode({value})) > {longest} OR lower({value}) = '{_NULL}' "
            f"OR regexp_full_match({value}, '{_LOOKS_SHORTENED}')"
        )
        if ignores_case:
            odd += f" OR lower(url_encode({value})) IN (FROM {_alike(tables, query, value, number)})"
        if not execute(tables, f"SELECT 1 FROM ({query}) WHERE {odd} LIMIT 1").fetchone():
            yield FolderName(column, value)
            continue
        room = longest - _HASH - 1
        start = (
            f"CASE WHEN strlen(url_encode(left({value}, {room // 2}))) <= {room} THEN left({value}, {room // 2}) "
            f"ELSE left({value}, {room // 12}) END"  # a character has at most four bytes, each of three letters
        )
        label = f"CASE WHEN {odd} THEN concat({start}, '~', left(sha256({value}), {_HASH})) ELSE {value} END"
        yield FolderName(column, label, f"CASE WHEN {odd} THEN {value} END")


def _alike(tables: Tables, query: str, value: str, number: int) -> str:
    """Return the name of a table with the values, in lower case, of which there are several."""
    table = f"alike_{number}"
    execute(
        tables,
        f"""
        CREATE OR REPLACE TEMP TABLE {table} AS
        SELECT folded FROM (SELECT DISTINCT {value} AS value, lower(url_encode({value})) AS folded FROM ({query}))
        GROUP BY folded HAVING count(*) > 1""",
    )
    return table


def bytes_for_values(output: Path, columns: Sequence[str]) -> dict[str, int]:
    """Return how many bytes the encoded values of each column may have in the names of folders.

    Args:
        output: The folder that the folders are in; its parent exists.
        columns: The columns of `partition_by`.

    Raises:
        JobError: The name of a column leaves no room for a value.
        OSError: The file system does not report its limits.
    """
    longest_name, longest_path = os.pathconf(output.parent, "PC_NAME_MAX"), os.pathconf(output.parent, "PC_PATH_MAX")
    below = longest_path - len(os.fsencode(output)) - _BESIDE
    longest = min(longest_name, below // len(columns) - 1)
    found = {column: longest - len(quote(column, safe="")) - 1 for column in columns}
    for column, left in found.items():
        if left < _LEAST:
            raise JobError(
                f"partition_by: the column {column[:40]!r} cannot name folders in {output}, for the names would be too "
                "long: rename it, name fewer columns, or write to a folder with a shorter path"
            )
    return found


def ignores_case(folder: Path) -> bool:
    """Return whether names that differ in case alone are the same in a folder.

    Raises:
        OSError: The folder cannot be written.
    """
    probe = folder / "probe"
    probe.touch()
    try:
        return (folder / "PROBE").exists()
    finally:
        probe.unlink()
