"""A TCP relay in front of the session's Prefect server, which a test can disconnect during a run."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType


class Relay:
    """Relay that forwards connections on its own port to another port of this machine.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._is_cut = False
        self._streams: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    def __enter__(self) -> Relay:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def cut(self) -> None:
        """Abort all connections, and refuse new ones until `mend`."""
        self._is_cut = True
        self._loop.call_soon_threadsafe(self._abort)

    def mend(self) -> None:
        """Forward again."""
        self._is_cut = False

    async def _listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = int(server.sockets[0].getsockname()[1])
        return server

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams.add(writer)
        if self._is_cut:
            writer.transport.abort()
            return
        there, to_server = await asyncio.open_connection("127.0.0.1", self._to)
        self._streams.add(to_server)
        await asyncio.gather(_forward(reader, to_server), _forward(there, writer))
        self._streams -= {writer, to_server}

    def _abort(self) -> None:
        for stream in self._streams:
            stream.transport.abort()
        self._streams.clear()

    async def _end(self) -> None:
        self._server.close()
        self._abort()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _forward(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            to.write(data)
            await to.drain()
    except OSError:  # either side was aborted
        pass
    finally:
        to.close()
