"""Bounds for what a provider may send: bytes of one response, and of all that are read at the same time.

A response is unpacked in small steps and given up at the limit, so neither an answer without an end nor a megabyte that
unpacks to a gigabyte takes more memory than that. https://www.rfc-editor.org/rfc/rfc9110#name-content-encoding
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator

import httpx2

from batch_llm.errors import ResponseTooLarge

MOST_BYTES = 16 * 1024 * 1024
"""Of one response, unpacked: several times the longest answer that a model gives, as JSON."""

SMALL_BYTES = 256 * 1024
"""A response up to here is read at once; of larger ones only a few at the same time."""

LARGE_AT_ONCE = 4

ENCODINGS = ("gzip", "deflate")
"""What may be asked for: what Python can unpack in steps."""

_STEP_BYTES = 64 * 1024
_AUTOMATIC = zlib.MAX_WBITS | 32  # a gzip or a zlib header, whichever comes


class BoundedBody(httpx2.AsyncByteStream):
    """A response's body, unpacked, up to `MOST_BYTES`.

    Args:
        response: Its stream is read; its header `Content-Encoding` is taken away, for what comes out is unpacked.
        large: Held while a response is read beyond `SMALL_BYTES`.

    Raises:
        httpx2.DecodingError: It is packed in a way that was not asked for.
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
                        f"{address_of(self._request.url)} sent more than {MOST_BYTES // 1024**2} MB for one answer; "
                        "what is longer is not read"
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
    """Unpacks gzip or deflate in steps."""

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
                if not data and len(piece) < _STEP_BYTES:  # else there may be more inside, of what was taken already
                    break

    def _step(self, data: bytes) -> bytes:
        try:
            return self._inflate.decompress(data, _STEP_BYTES)
        except zlib.error as error:
            if self._begun:
                raise httpx2.DecodingError(str(error), request=self._request) from error
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)  # what some servers call deflate has no header
            self._begun = True
            return self._step(data)
        finally:
            self._begun = True


def bound(response: httpx2.Response, large: asyncio.Semaphore) -> None:
    """Let no more of a response be read than is allowed.

    Raises:
        httpx2.DecodingError: It is packed in a way that was not asked for.
    """
    body = BoundedBody(response, large)
    if "content-encoding" in response.headers:
        del response.headers["content-encoding"]
    response.stream = body


def address_of(url: httpx2.URL) -> str:
    """Return scheme, host and port of an address: no path, and no password."""
    return str(url.copy_with(raw_path=b"/", userinfo=b"", fragment=None)).rstrip("/")


def _encodings(response: httpx2.Response) -> list[str]:
    """Return how a body is packed, the outermost first."""
    names = [
        name.strip().lower().removeprefix("x-") for name in response.headers.get("content-encoding", "").split(",")
    ]
    for name in filter(None, names):
        if name not in (*ENCODINGS, "identity"):
            raise httpx2.DecodingError(
                f"the answer is packed as {name[:40]}, which was not asked for", request=response.request
            )
    return [name for name in reversed(names) if name]
