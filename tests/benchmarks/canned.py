"""An OpenAI server that costs next to nothing: one answer in bytes, whatever is asked.

    python -m tests.benchmarks.canned --latency 0.05

prints the base URL that a client needs, and serves until it is interrupted. What a client can do on the cores beside it
is seen better here than with a server that reads what it is sent.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from collections.abc import Callable

ANSWER = "A short answer of some sixty characters, as summaries may be."
INPUT_TOKENS, OUTPUT_TOKENS = 100, 12
_END_OF_HEAD, _LENGTH = b"\r\n\r\n", b"content-length:"


def _reply() -> bytes:
    usage = {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS, "total_tokens": 112}
    message = {"role": "assistant", "content": ANSWER}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    about = {"id": "c", "object": "chat.completion", "created": 0, "model": "gpt-4.1-mini"}
    body = json.dumps(about | {"choices": choices, "usage": usage}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


class Connection(asyncio.Protocol):
    """Answers each request of a connection after the latency."""

    def __init__(self, latency: float) -> None:
        self._latency, self._reply, self._received = latency, _reply(), b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._send: Callable[[bytes], None] = transport.write

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (length := _length(self._received)) is not None and len(self._received) >= length:
            self._received = self._received[length:]
            asyncio.get_running_loop().call_later(self._latency, self._send, self._reply)


def _length(received: bytes) -> int | None:
    """Return the length of the first request, when its head is there."""
    head, end, _ = received.partition(_END_OF_HEAD)
    if not end:
        return None
    _, found, rest = head.lower().partition(_LENGTH)
    return len(head) + len(end) + (int(rest.split(b"\r\n", 1)[0]) if found else 0)


async def serve(latency: float) -> None:
    """Serve until cancelled."""
    server = await asyncio.get_running_loop().create_server(lambda: Connection(latency), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="Serve one answer on 127.0.0.1.")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that it takes")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args().latency))


if __name__ == "__main__":
    main()
