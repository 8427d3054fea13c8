"""Packed files, and those of other machines: read to their end, or what is wrong is told in one line."""

from __future__ import annotations

import io
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO, Any

import zstandard

from batch_llm.errors import JobError

_PIECE = 4 * 1024
"""Unpacked as a whole, and zstd makes a thousand bytes of one where all are the same."""


@contextmanager
def wrapping_read_errors(file: str) -> Generator[None]:
    """Say in one line why a file cannot be read.

    Raises:
        JobError: It cannot.
    """
    try:
        yield
    except Exception as error:  # every file system, and every packing, has exceptions of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise JobError(f"{file} cannot be read: {reason}") from error


class CheckedFile(io.RawIOBase):
    """A file whose every reading tells what is wrong."""

    def __init__(self, file: str, opened: Any) -> None:
        self._file = file
        self._opened = opened

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # typeshed's buffers have no name in Python 3.11
        with wrapping_read_errors(self._file):
            piece = self._opened.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._opened.close()
        super().close()


class ZstdFile:
    """A file packed by zstd: all of its frames, of which parallel packers make many, and the last one whole.

    fsspec's reader stops after the first frame; zstandard's own takes a file that is cut short for its end.
    """

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = packed
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._ahead = b""
        self._ready = io.BytesIO()

    def read(self, size: int) -> bytes:
        """Return up to so many bytes; none at the end."""
        while not (piece := self._ready.read(size)):
            packed = self._ahead or self._packed.read(_PIECE)
            if not packed and self._frame is not None:
                raise EOFError("it ends before its end: it is not whole")
            if not packed:
                return b""
            self._unpack(packed)
        return piece

    def _unpack(self, packed: bytes) -> None:
        frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
        self._ready = io.BytesIO(frame.decompress(packed))
        self._ahead = frame.unused_data if frame.eof else b""
        self._frame = None if frame.eof else frame

    def close(self) -> None:
        """Close the packed file."""
        self._packed.close()
