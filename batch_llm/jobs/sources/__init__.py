"""What a job can read: a new kind of source is a new file here and a line in `open_source`."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from batch_llm.errors import JobError
from batch_llm.jobs.project import project_folder, resolve
from batch_llm.jobs.tables import Tables

from .base import BrokenRow, Source
from .csv import CsvSource
from .jsonl import JsonLinesSource
from .parquet import ParquetSource
from .query import QuerySource
from .text_files import TEXT_ENDINGS, TextFilesSource

__all__ = ["BrokenRow", "Source", "open_source"]

SAMPLES = "samples"
_QUERY = re.compile(r"\s*(select|with|from)\s", re.IGNORECASE)
_PACKED = (".gz", ".zst")
_BY_ENDING: dict[str, type[Source]] = {
    ".jsonl": JsonLinesSource,
    ".ndjson": JsonLinesSource,
    ".csv": CsvSource,
    ".tsv": CsvSource,
    ".parquet": ParquetSource,
    ".pq": ParquetSource,
    **dict.fromkeys(TEXT_ENDINGS, TextFilesSource),
}


def open_source(tables: Tables, source: str) -> Source:
    """Return what reads a job's source.

    Raises:
        JobError: Nothing here reads it.
    """
    if source == SAMPLES:
        return TextFilesSource(tables, str(project_folder() / "deployments" / "samples"))
    if _QUERY.match(source):
        return QuerySource(tables, source)
    path = PurePosixPath(source)
    ending = PurePosixPath(path.stem).suffix if path.suffix.lower() in _PACKED else path.suffix
    kind = _BY_ENDING.get(ending.lower())
    if kind is None and resolve(source).is_dir():
        kind = TextFilesSource
    if kind is None:
        raise JobError(
            f"source {source!r} is not of a known kind: give a file ({', '.join(sorted(_BY_ENDING))}), a folder of "
            "text files, or a query that starts with 'select'"
            if "://" in source or resolve(source).exists()
            else f"{resolve(source)} does not exist: check source"
        )
    return kind(tables, source)
