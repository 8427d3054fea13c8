"""Check that a job does not write to its own source, which its output would replace."""

from __future__ import annotations

import glob
import os
from fnmatch import fnmatch
from pathlib import PurePath

from batch_llm.errors import JobError
from batch_llm.jobs.sinks import OutputPlace
from batch_llm.jobs.sources import endings_of
from batch_llm.jobs.sources.file_paths import is_glob, is_remote, split_glob, without_braces
from batch_llm.jobs.storage.database_urls import QUERY, DatabaseAddress, parse_database_address
from batch_llm.jobs.storage.formats import split_ending
from batch_llm.jobs.storage.paths import resolve


def check_path_conflicts(source: str, output: OutputPlace) -> None:
    """Check that the output, the failures file and the files of an incomplete run do not replace the source.

    Tables of queries are not checked.

    Args:
        source: The job's source.
        output: The job's output.

    Raises:
        JobError: A file that the job writes is part of the source.
    """
    if QUERY.match(source):
        return
    table = parse_database_address(source)
    if _reads(source, table, output):
        raise JobError(f"output {output.place} is in the source, and would replace it: set another output")
    for other in (output.partial, output.partial.failures):
        if _reads(source, table, other):
            raise JobError(
                f"source {source} contains {other.place}, which an incomplete run with this output writes and a "
                "complete run removes: set another output"
            )
    if _reads(source, table, output.failures):
        raise JobError(
            f"source {source} contains {output.failures.place}, which is the failures file of this output: set another "
            "output, or run the whole source with only_failed"
        )


def _reads(source: str, table: DatabaseAddress | None, written: OutputPlace) -> bool:
    if table or written.table:
        return table is not None and written.table is not None and _table(table) == _table(written.table)
    if is_remote(source) or is_remote(written.place):
        return source == written.place
    place, target = os.path.realpath(resolve(source)), os.path.realpath(resolve(written.place))
    if PurePath(place).is_relative_to(target):  # a folder of parts is replaced as a whole
        return True
    return is_glob(source) and _matches(target, source) and split_ending(target)[0] in endings_of(source)


def _matches(path: str, place: str) -> bool:
    folder, rest = split_glob(place)
    base = glob.escape(os.path.realpath(folder))
    return any(_fits(path, f"{base}/{part}") for part in without_braces(rest))


def _fits(path: str, pattern: str) -> bool:
    if "**" not in pattern:
        return PurePath(path).match(pattern)
    return fnmatch(path, pattern) or fnmatch(path, pattern.replace("**/", ""))


def _table(address: DatabaseAddress) -> tuple[str, str]:
    is_file = address.kind != "postgresql"
    return os.path.realpath(address.path) if is_file else address.database, address.rows.lower()
