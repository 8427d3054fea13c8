"""Reading of compressed and remote files, with one-line errors for whatever goes wrong."""

from __future__ import annotations

import io
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO, Any

import zstandard

from batch_llm.errors import JobError

_PIECE = 4 * 1024
"""Compressed bytes per read. They are decompressed at once, and zstd can turn one byte into a thousand."""


@contextmanager
def wrapping_read_errors(file: str) -> Generator[None]:
    """Convert any exception into a one-line error that names the file.

    Raises:
        JobError: The file cannot be read.
    """
    try:
        yield
    except Exception as error:  # every file system and every compression has its own exceptions
        reason = " ".join(str(error).split()) or type(error).__name__
        raise JobError(f"{file} cannot be read: {reason}") from error


class CheckedFile(io.RawIOBase):
    """A binary file whose reads raise `JobError` with the name of the file."""

    def __init__(self, file: str, opened: Any) -> None:
        self._file = file
        self._opened = opened

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:  # typeshed's buffers have no name in Python 3.11
        """Read up to `len(buffer)` bytes into the buffer; return their number."""
        with wrapping_read_errors(self._file):
            piece = self._opened.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Close the file."""
        self._opened.close()
        super().close()


class ZstdFile:
    """A zstd-compressed file that is read to its last frame, and must be complete.

    Parallel compressors write many frames. The reader of fsspec stops after the first frame, and the reader of
    zstandard treats a truncated file as complete.
    """

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = packed
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._ahead = b""
        self._ready = io.BytesIO()

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; none at the end of the file.

        Raises:
            EOFError: The file is truncated.
        """
        while not (piece := self._ready.read(size)):
            packed = self._ahead or self._packed.read(_PIECE)
            if not packed and self._frame is not None:
                raise EOFError("the file is truncated")
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
        """Close the compressed file."""
        self._packed.close()
