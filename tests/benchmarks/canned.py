"""An OpenAI server that costs next to nothing: one answer in bytes, whatever is asked.

    python -m tests.benchmarks.canned --latency 0.05

prints the base URL that a client needs, and serves until it is interrupted. What a client can do on the cores beside it
is seen better here than with a server that reads what it is sent. `/stats` has the number of requests since it was last
read, and when the first of them came and the last was answered.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

ANSWER = "A short answer of some sixty characters, as summaries may be."
INPUT_TOKENS, OUTPUT_TOKENS = 100, 12
_END_OF_HEAD, _LENGTH = b"\r\n\r\n", b"content-length:"


@dataclass(slots=True)
class Seen:
    """Requests since the last look, with the times of the first and of the last answer in seconds since 1970."""

    requests: int = 0
    first: float = 0.0
    last: float = 0.0


def _reply() -> bytes:
    usage = {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS, "total_tokens": 112}
    message = {"role": "assistant", "content": ANSWER}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    about = {"id": "c", "object": "chat.completion", "created": 0, "model": "gpt-4.1-mini"}
    return _http(about | {"choices": choices, "usage": usage})


def _http(content: object) -> bytes:
    body = json.dumps(content).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


class Connection(asyncio.Protocol):
    """Answers each request of a connection after the latency."""

    def __init__(self, latency: float, seen: Seen) -> None:
        self._latency, self._seen, self._reply, self._received = latency, seen, _reply(), b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._write: Callable[[bytes], None] = transport.write

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (length := _length(self._received)) is not None and len(self._received) >= length:
            asked_for, self._received = self._received[:length], self._received[length:]
            if asked_for.startswith(b"GET /stats "):
                self._write(_http(asdict(self._seen)))
                self._seen.requests = 0
                continue
            self._seen.requests += 1
            if self._seen.requests == 1:
                self._seen.first = time.time()
            asyncio.get_running_loop().call_later(self._latency, self._answer)

    def _answer(self) -> None:
        self._seen.last = time.time()
        self._write(self._reply)


def _length(received: bytes) -> int | None:
    """Return the length of the first request, when its head is there."""
    head, end, _ = received.partition(_END_OF_HEAD)
    if not end:
        return None
    _, found, rest = head.lower().partition(_LENGTH)
    return len(head) + len(end) + (int(rest.split(b"\r\n", 1)[0]) if found else 0)


async def serve(latency: float) -> None:
    """Serve until cancelled."""
    seen = Seen()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(latency, seen), "127.0.0.1", 0)
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
