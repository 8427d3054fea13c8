"""A real HTTP server on 127.0.0.1 with a script of replies; the providers' servers build on it.

    with OpenAIServer() as server:                      # listens in a thread with a loop of its own
        server.script(OpenAIServer.rate_limit(retry_after=1), OpenAIServer.server_error(), OK)
        ...                                             # drive the real SDK against server.url
    assert server.requests == 3

A request takes the next scripted reply; when the script is empty, `server.rule(call)` is asked; when that is missing or
returns None, the server answers like a healthy service. Its counters can be read from any thread;
`GET /stats` gives the same to another process.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from aiohttp import web

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One request: `kind` is the operation ("chat", "generate", "cache.create", ...), `prompt` the user's text."""

    kind: str
    prompt: str
    method: str
    path: str
    headers: dict[str, str]
    body: Json


@dataclass(frozen=True, slots=True)
class Reply:
    """One scripted reply.

    Attributes:
        status: HTTP status.
        body: JSON, or text (sent as HTML unless `headers` name another type; a lone surrogate such as "\\udcff" is the
            byte 0xff), or a function of the call that gives either; None for a healthy answer.
        headers: Sent along.
        fault: "hang" never answers, "cut" ends in the middle of the body, "reset" answers with a TCP reset.
        delay: Seconds before the answer, on top of the server's own latency.
    """

    status: int = 200
    body: Json | str | Callable[[Call], Json] | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    fault: Literal["hang", "cut", "reset"] | None = None
    delay: float = 0.0


OK = Reply()
HANG = Reply(fault="hang")
CUT = Reply(fault="cut")
RESET = Reply(fault="reset")
HTML_502 = Reply(502, "<html><body><h1>502 Bad Gateway</h1></body></html>")


def tokens(text: str) -> int:
    """Count words, which these servers use as tokens."""
    return len(text.split())


class LoopbackServer:
    """Server with scripted replies and counters; subclasses define the healthy answer.

    Attributes:
        requests: Requests in all.
        kinds: Requests by kind.
        prompts: Requests by prompt, including failed ones.
        answered: Successful answers by prompt: what was paid for.
        calls: The latest requests, whole.
        in_flight, max_in_flight: Requests being served now, and at most.
        input_tokens, output_tokens: Tokens served in successful answers.
        latency: Seconds that every answer takes.
        rule: Asked for a reply when the script is empty; None for a healthy answer.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        latency: float = 0.0,
        rule: Callable[[Call], Reply | None] | None = None,
    ) -> None:
        self.latency = latency
        self.rule: Callable[[Call], Reply | None] | None = rule
        self.requests = self.in_flight = self.max_in_flight = self.input_tokens = self.output_tokens = 0
        self.kinds: Counter[str] = Counter()
        self.prompts: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.calls: deque[Call] = deque(maxlen=1000)
        self._scripts: defaultdict[str, deque[Reply]] = defaultdict(deque)
        self._socket = socket.create_server((host, port), backlog=4096)
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)

    # What a provider fills in.

    main_kind = "call"

    def kind(self, method: str, path: str) -> str:
        """Return the operation of a request, for scripts and counts."""
        return "call"

    def prompt(self, body: Json) -> str:
        """Return the last user text of a request."""
        return ""

    def healthy(self, call: Call) -> Reply:
        """Answer as the service does."""
        return Reply(body={"kind": call.kind})

    def usage(self, body: Json) -> tuple[int, int]:
        """Read input and output tokens out of an answer."""
        return 0, 0

    # What a test uses.

    @property
    def url(self) -> str:
        """The server's URL, without a slash at the end."""
        host, port = self._socket.getsockname()
        return f"http://{host}:{port}"

    def script(self, *replies: Reply, on: str | None = None) -> None:
        """Queue replies for the next requests of one kind (default: the provider's completion call)."""
        self._scripts[on or self.main_kind].extend(replies)

    async def saw(self, count: int, kind: str | None = None) -> None:
        """Wait until the server has seen so many requests of one kind."""
        while self.kinds[kind or self.main_kind] < count:  # noqa: ASYNC110  another thread counts
            await asyncio.sleep(0.005)

    def stats(self) -> Json:
        """Return the server's counters as JSON."""
        names = ("requests", "max_in_flight", "input_tokens", "output_tokens")
        return {name: getattr(self, name) for name in names} | {"kinds": dict(self.kinds)}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def wait(self) -> None:
        """Serve until the process is interrupted."""
        self._thread.join()

    # How it is done.

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_get("/stats", self._stats)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # Handlers are cancelled when their client goes away, so a hang ends with its caller.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0, handler_cancellation=True)
        await runner.setup()
        await web.SockSite(runner, self._socket).start()
        await self._closing.wait()
        await runner.cleanup()

    async def _stats(self, _: web.Request) -> web.Response:
        return web.json_response(self.stats())

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = await self._read(request)
        self.requests += 1
        self.kinds[call.kind] += 1
        self.prompts[call.prompt] += 1
        self.calls.append(call)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            reply = self._next(call)
            await asyncio.sleep(self.latency + reply.delay)
            return await self._send(request, call, reply)
        finally:
            self.in_flight -= 1

    async def _read(self, request: web.Request) -> Call:
        raw = await request.read()
        body: Json = json.loads(raw) if raw else {}
        headers = {name.lower(): value for name, value in request.headers.items()}
        kind = self.kind(request.method, request.path)
        return Call(kind, self.prompt(body), request.method, request.path, headers, body)

    def _next(self, call: Call) -> Reply:
        if script := self._scripts[call.kind]:
            return script.popleft()
        return (self.rule and self.rule(call)) or OK

    async def _send(self, request: web.Request, call: Call, reply: Reply) -> web.StreamResponse:
        if reply.fault == "hang":
            await self._closing.wait()
        if reply.fault in ("hang", "reset"):
            return self._reset(request)
        if reply.body is None:
            reply = replace(self.healthy(call), fault=reply.fault)
        body = reply.body(call) if callable(reply.body) else reply.body
        if isinstance(body, str):
            raw, headers = body.encode(errors="surrogateescape"), {"content-type": "text/html", **reply.headers}
            return web.Response(status=reply.status, body=raw, headers=headers)
        if reply.fault == "cut":
            return await self._cut(request, json.dumps(body).encode())
        if reply.status == 200:
            self._count(call, body or {})
        return web.json_response(body, status=reply.status, headers=reply.headers)

    def _count(self, call: Call, body: Json) -> None:
        spent_in, spent_out = self.usage(body)
        self.input_tokens += spent_in
        self.output_tokens += spent_out
        self.answered[call.prompt] += 1

    @staticmethod
    async def _cut(request: web.Request, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.close()
        return response

    @staticmethod
    def _reset(request: web.Request) -> web.Response:
        if request.transport is not None:
            # SO_LINGER with zero seconds turns the close into a TCP reset.
            connection: socket.socket = request.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.transport.abort()
        return web.Response()
