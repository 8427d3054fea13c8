"""Limits on the size of one response, and on the number of large responses that are read at the same time.

A response is decompressed in small steps and aborted at the limit, so neither an endless answer nor a megabyte that
decompresses to a gigabyte takes more memory. https://www.rfc-editor.org/rfc/rfc9110#name-content-encoding
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator

import httpx2

from batch_llm.errors import ResponseTooLarge

MOST_BYTES = 16 * 1024 * 1024
"""Maximum size of one decompressed response: several times the longest answer of a model as JSON."""

SMALL_BYTES = 256 * 1024
"""Responses up to this size are read without a limit on their number."""

LARGE_AT_ONCE = 4
"""Number of responses above `SMALL_BYTES` that are read at the same time."""

ENCODINGS = ("gzip", "deflate")
"""Accepted encodings: those that Python can decompress in steps."""

_STEP_BYTES = 64 * 1024
_AUTOMATIC = zlib.MAX_WBITS | 32  # detects a gzip or a zlib header


class BoundedBody(httpx2.AsyncByteStream):
    """Decompressed body of a response, limited to `MOST_BYTES`.

    Args:
        response: Response to read.
        large: Semaphore that is acquired for the part of a response beyond `SMALL_BYTES`.

    Raises:
        httpx2.DecodingError: The response has an encoding that was not requested.
    """

    def __init__(self, response: httpx2.Response, large: asyncio.Semaphore) -> None:
        self._stream = response.stream
        self._request = response.request
        self._large = large
        self._unpack = [_Unpacker(response.request) for name in _encodings(response) if name != "identity"]
        self._holds_place = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        stream = self._stream
        assert isinstance(stream, httpx2.AsyncByteStream)
        async for packed in stream:
            for piece in self._unpacked(packed):
                size += len(piece)
                if size > MOST_BYTES:
                    raise ResponseTooLarge(
                        f"{address_of(self._request.url)} sent more than {MOST_BYTES // 1024**2} MB for one answer, "
                        "which is the limit"
                    )
                if size > SMALL_BYTES and not self._holds_place:
                    await self._large.acquire()
                    self._holds_place = True
                yield piece

    async def aclose(self) -> None:
        if self._holds_place:
            self._holds_place = False
            self._large.release()
        stream = self._stream
        assert isinstance(stream, httpx2.AsyncByteStream)
        await stream.aclose()

    def _unpacked(self, data: bytes) -> Iterator[bytes]:
        pieces = iter((data,))
        for unpacker in self._unpack:
            pieces = unpacker.pieces(pieces)
        return pieces


class _Unpacker:
    """Decompressor of gzip and deflate that works in steps."""

    def __init__(self, request: httpx2.Request) -> None:
        self._request = request
        self._inflate = zlib.decompressobj(_AUTOMATIC)
        self._begun = False

    def pieces(self, packed: Iterator[bytes]) -> Iterator[bytes]:
        for data in packed:
            while not self._inflate.eof:
                piece = self._step(data)
                data = self._inflate.unconsumed_tail
                if piece:
                    yield piece
                if not data and len(piece) < _STEP_BYTES:  # else the decompressor may have more output buffered
                    break

    def _step(self, data: bytes) -> bytes:
        try:
            return self._inflate.decompress(data, _STEP_BYTES)
        except zlib.error as error:
            if self._begun:
                raise httpx2.DecodingError(str(error), request=self._request) from error
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)  # some servers send deflate without a header
            self._begun = True
            return self._step(data)
        finally:
            self._begun = True


def bound(response: httpx2.Response, large: asyncio.Semaphore) -> None:
    """Limit the size of a response's body and remove its `Content-Encoding` header.

    Raises:
        httpx2.DecodingError: The response has an encoding that was not requested.
    """
    body = BoundedBody(response, large)
    if "content-encoding" in response.headers:
        del response.headers["content-encoding"]
    response.stream = body


def address_of(url: httpx2.URL) -> str:
    """Return scheme, host and port of a URL, without path and password."""
    return str(url.copy_with(raw_path=b"/", userinfo=b"", fragment=None)).rstrip("/")


def _encodings(response: httpx2.Response) -> list[str]:
    """Return the encodings of a body, the outermost first."""
    names = [
        name.strip().lower().removeprefix("x-") for name in response.headers.get("content-encoding", "").split(",")
    ]
    for name in filter(None, names):
        if name not in (*ENCODINGS, "identity"):
            raise httpx2.DecodingError(
                f"the answer has the encoding {name[:40]}, which was not requested", request=response.request
            )
    return [name for name in reversed(names) if name]
