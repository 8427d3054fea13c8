"""Checksums of ledger records; records that do not match their checksum are left out.

A record ends with `"number":7,"check":"0a1b2c3d"}`, where the check is the CRC-32 of all bytes before `,"check"`.
Records of older versions have neither field and are accepted without a check.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import IO
from zlib import crc32

MOST_RECORD_BYTES = 32 * 1024 * 1024
"""Longest accepted line: for each thread, DuckDB allocates twice the length of the longest line."""

_CHECK = b',"check":"'
_LAST_FIELDS = 64
"""Number of bytes at the end of a record that contain its `number` field."""
_DRY_RUN = b'"output":"dry run of item '


@dataclass(frozen=True, slots=True)
class Soundness:
    """Result of checking a file of records.

    Attributes:
        longest: Bytes of the longest line that can be read.
        damaged: Number of lines that do not match their checksum, or are longer than any record.
        dry_run_answers: Number of answers of a dry run, which older versions stored.
    """

    longest: int = 0
    damaged: int = 0
    dry_run_answers: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether every line of the file can be used."""
        return not self.damaged and not self.dry_run_answers


def line_with_checksum(record: bytes) -> bytes:
    """Return the line for a record, which is a JSON object: the record with its checksum, and a line break."""
    body = record[:-1]
    return body + b',"check":"%08x"}\n' % crc32(body)


def is_sound(line: bytes) -> bool:
    """Whether a line, without its line break, matches its checksum, or was written by a version without checksums."""
    if line[-20:-10] == _CHECK:
        return line[-10:-2] == b"%08x" % crc32(line[:-20]) and line[-2:] == b'"}'
    return b'"number":' not in line[-_LAST_FIELDS:]


def sound_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines with a valid checksum, without their line breaks; answers of dry runs are skipped."""
    for line in lines:
        stripped = line.rstrip(b"\r\n")
        if is_sound(stripped) and not _is_of_dry_run(stripped):
            yield stripped


def soundness_of(file: Path) -> Soundness:
    """Check the lines of a file; the result is cached until the file changes.

    Raises:
        OSError: The file cannot be read.
    """
    about = file.stat()
    return _soundness(file, about.st_size, about.st_mtime_ns, about.st_ino)


def copy_sound(file: Path, copy: Path) -> None:
    """Copy the valid lines of a file to another file.

    Raises:
        OSError: The file cannot be read, or the copy cannot be written.
    """
    with file.open("rb") as opened, copy.open("wb") as copied:
        for line in _lines(opened, os.fstat(opened.fileno()).st_size):
            if line is not None:
                copied.writelines(found + b"\n" for found in sound_lines([line]))


@lru_cache(maxsize=100_000)
def _soundness(file: Path, size: int, _modified: int, _node: int) -> Soundness:
    found = Soundness()
    longest = 0
    with file.open("rb") as opened:
        for line in _lines(opened, size):
            if line is None:
                found = replace(found, damaged=found.damaged + 1)
                continue
            if len(line) > longest:
                longest = len(line)
            # Nearly all lines end here, without a call.
            if line[-11:] == b'%08x"}\n' % crc32(line[:-21]) and line[-21:-11] == _CHECK and _DRY_RUN not in line:
                continue
            stripped = line.rstrip(b"\r\n")
            if not is_sound(stripped):
                # The last line is truncated if its writer was killed; this does not count as damage.
                found = replace(found, damaged=found.damaged + (len(stripped) < len(line)))
            elif _is_of_dry_run(stripped):
                found = replace(found, dry_run_answers=found.dry_run_answers + 1)
    return replace(found, longest=longest)


def _is_of_dry_run(line: bytes) -> bool:
    return _DRY_RUN in line and b'"status":"succeeded"' in line and b'"attempts":0,' in line


def _lines(opened: IO[bytes], size: int) -> Iterator[bytes | None]:
    """Yield the lines of a file; None for a line longer than any record, which is never read as a whole."""
    if size <= MOST_RECORD_BYTES:
        yield from opened
        return
    while line := opened.readline(MOST_RECORD_BYTES):
        if line.endswith(b"\n") or len(line) < MOST_RECORD_BYTES:
            yield line
            continue
        for _ in takewhile(lambda more: more and not more.endswith(b"\n"), _pieces(opened)):
            pass
        yield None


def _pieces(opened: IO[bytes]) -> Iterator[bytes]:
    while True:
        yield opened.readline(MOST_RECORD_BYTES)
