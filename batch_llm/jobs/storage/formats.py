"""File formats and compressions, by the extension of a file's name."""

from __future__ import annotations

from pathlib import PurePosixPath

from .database_urls import parse_database_address

PACKINGS = {".gz": "gzip", ".zst": "zstd"}
OUTPUT_ENDINGS = (
    ".jsonl",
    ".parquet",
    ".csv",
    *(f"{ending}{packed}" for ending in (".jsonl", ".csv") for packed in PACKINGS),
)


def split_ending(place: str) -> tuple[str, str]:
    """Split off the extensions of a file's name.

    Returns:
        The extension of the format, and the extension of the compression; empty if the file is not compressed.

    Example:
        >>> split_ending("tickets.csv.gz")
        ('.csv', '.gz')
    """
    path = PurePosixPath(place)
    last = path.suffix.lower()
    return (PurePosixPath(path.stem).suffix.lower(), last) if last in PACKINGS else (last, "")


_LONGEST_TABLE = 62
"""PostgreSQL truncates names to 63 bytes; the name of the failures table must differ from the output's."""


def check_output(place: str) -> None:
    """Check that an output is a file of a supported format, or a table in a database.

    Raises:
        ValueError: The output is neither.
    """
    if address := parse_database_address(place):
        if address.is_query:
            raise ValueError("a query cannot be written to: name a table")
        if address.kind == "postgresql" and len(address.rows.rpartition(".")[2].encode()) > _LONGEST_TABLE:
            raise ValueError(f"the table name is longer than {_LONGEST_TABLE} bytes, and PostgreSQL would truncate it")
    elif "".join(split_ending(place)) not in OUTPUT_ENDINGS:
        raise ValueError(f"the file extension must be one of {', '.join(OUTPUT_ENDINGS)}")
