"""Check that a job does not write to its own source, which its output would replace."""

from __future__ import annotations

import glob
import os
from fnmatch import fnmatch
from pathlib import PurePath

from batch_llm.errors import JobError
from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.sinks import failures_place, partial_place
from batch_llm.jobs.sources.file_paths import is_glob, is_remote, split_glob
from batch_llm.jobs.storage.database_urls import QUERY, Address, parse_address
from batch_llm.jobs.storage.paths import resolve


def check_path_conflicts(job: BatchJob) -> None:
    """Check that the output, the failures file and the files of an incomplete run do not replace the source.

    Tables of queries are not checked.

    Raises:
        JobError: A file that the job writes is part of the source.
    """
    if QUERY.match(job.source):
        return
    if _reads(job.source, job.output):
        raise JobError(f"output {job.output} is in the source, and would replace it: set another output")
    partial = partial_place(job.output)
    for place in (partial, failures_place(partial)):
        if _reads(job.source, place):
            raise JobError(
                f"source {job.source} contains {place}, which an incomplete run with this output writes and a complete "
                "run removes: set another output"
            )
    failures = failures_place(job.output)
    if _reads(job.source, failures):
        raise JobError(
            f"source {job.source} contains {failures}, which is the failures file of this output: set another "
            "output, or run the whole source with only_failed"
        )


def _reads(source: str, written: str) -> bool:
    read_from, write_to = parse_address(source), parse_address(written)
    if read_from or write_to:
        return read_from is not None and write_to is not None and _table(read_from) == _table(write_to)
    if is_remote(source) or is_remote(written):
        return source == written
    place, target = os.path.realpath(resolve(source)), os.path.realpath(resolve(written))
    if PurePath(place).is_relative_to(target):  # a folder of parts is replaced as a whole
        return True
    return is_glob(source) and _matches(target, source)


def _matches(path: str, place: str) -> bool:
    folder, rest = split_glob(place)
    pattern = f"{glob.escape(os.path.realpath(folder))}/{rest}"
    if "**" not in rest:
        return PurePath(path).match(pattern)
    return fnmatch(path, pattern) or fnmatch(path, pattern.replace("**/", ""))


def _table(address: Address) -> tuple[str, str]:
    is_file = address.kind != "postgresql"
    return os.path.realpath(address.path) if is_file else address.database, address.rows.lower()
