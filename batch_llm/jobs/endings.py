"""What the ending of a file's name says: its format, and how it is packed."""

from __future__ import annotations

from pathlib import PurePosixPath

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
