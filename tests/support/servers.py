"""The providers' servers in one place, for tests and for the shell.

    from tests.support.servers import OK, HANG, OpenAIServer

    python -m tests.support.servers openai --port 0 --latency 0.05

prints the base URL that a client needs (for `OPENAI_BASE_URL` or `GOOGLE_GEMINI_BASE_URL`) and serves until it is
interrupted; `GET /stats` returns its counters.
"""

from __future__ import annotations

import argparse
import contextlib

from .gemini_server import GeminiServer
from .loopback import CUT, HANG, HTML_502, OK, RESET, Call, LoopbackServer, Reply
from .openai_server import OpenAIServer

__all__ = ["CUT", "HANG", "HTML_502", "OK", "RESET", "Call", "GeminiServer", "LoopbackServer", "OpenAIServer", "Reply"]


def main() -> None:
    """Serve one provider until interrupted."""
    parser = argparse.ArgumentParser(description="Serve a provider's API on 127.0.0.1 with canned answers.")
    parser.add_argument("provider", choices=["openai", "gemini"])
    parser.add_argument("--port", type=int, default=0, help="0 for a free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that every answer takes")
    options = parser.parse_args()
    kind = OpenAIServer if options.provider == "openai" else GeminiServer
    with contextlib.suppress(KeyboardInterrupt), kind(port=options.port, latency=options.latency) as server:
        print(server.base_url if isinstance(server, OpenAIServer) else server.url, flush=True)
        server.wait()


if __name__ == "__main__":
    main()
