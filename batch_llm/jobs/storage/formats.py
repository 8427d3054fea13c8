"""What the ending of a file's name says: its format, and how it is packed."""

from __future__ import annotations

from pathlib import PurePosixPath

from .database_urls import parse_address

PACKINGS = {".gz": "gzip", ".zst": "zstd"}
OUTPUT_ENDINGS = (
    ".jsonl",
    ".parquet",
    ".csv",
    *(f"{ending}{packed}" for ending in (".jsonl", ".csv") for packed in PACKINGS),
)


def split_ending(place: str) -> tuple[str, str]:
    """Return the ending that tells the format, and the one that tells the packing, if there is one."""
    path = PurePosixPath(place)
    last = path.suffix.lower()
    return (PurePosixPath(path.stem).suffix.lower(), last) if last in PACKINGS else (last, "")


_LONGEST_TABLE = 62
"""PostgreSQL cuts names to 63 bytes, and the table of failures needs another one."""


def check_output(place: str) -> None:
    """See that a name is one of a file that we write, or of a table in a database.

    Raises:
        ValueError: It is neither.
    """
    if address := parse_address(place):
        if address.is_query:
            raise ValueError("nothing can be written to a query: name a table")
        if address.kind == "postgresql" and len(address.rows.rpartition(".")[2].encode()) > _LONGEST_TABLE:
            raise ValueError(f"its table's name is longer than {_LONGEST_TABLE} bytes, and PostgreSQL would cut it")
    elif "".join(split_ending(place)) not in OUTPUT_ENDINGS:
        raise ValueError(f"its ending must be one of {', '.join(OUTPUT_ENDINGS)}")
