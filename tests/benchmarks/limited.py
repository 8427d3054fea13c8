"""An OpenAI server with an account's limits: a token bucket of requests, and one of tokens.

    python -m tests.benchmarks.limited --requests-per-second 50 --burst-seconds 0.2

prints the base URL that a client needs, and serves until it is interrupted. What a bucket does not allow is refused at
once with 429. A request takes its input tokens when it arrives, and its output tokens, of which only `usage` tells,
when it is answered; debt is allowed then, and nothing is accepted until it is paid.

`GET /stats` tells what was accepted and refused, whose and when; `POST /limit` with the body
`{"requests_per_second": 25}` (or `tokens_per_second`) changes a limit at once.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import time
from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

from batch_llm.simulation.scenario import Z95
from tests.support.loopback import Call, Json, Reply
from tests.support.openai_server import OpenAIServer, input_tokens

from .bucket import Bucket


class LimitedServer(OpenAIServer):
    """Accepts what its buckets allow.

    Args:
        latency: Seconds that an answer takes; a refusal takes none.
        latency_p95: Seconds within which 95 of 100 answers come; `latency` is the median then. None: all alike.
        failure_rate: Share of calls that are answered with 500.
        requests_per_second, tokens_per_second: The limits; None for none.
        burst_seconds: How much of a limit may be used at once after a rest.
        retry_after: Whether a refusal tells when to come back, in whole seconds.
        remaining_headers: Whether answers and refusals tell what remains, in OpenAI's `x-ratelimit-*` headers.
        answer_tokens: Output tokens of an answer in the mean; unevenly drawn, by the prompt. None: the answer's words.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        latency: float = 0.2,
        latency_p95: float | None = None,
        failure_rate: float = 0.0,
        requests_per_second: float | None = None,
        tokens_per_second: float | None = None,
        burst_seconds: float = 0.2,
        retry_after: bool = True,
        remaining_headers: bool = False,
        answer_tokens: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(port=port, rule=self._admit)
        self._buckets: dict[str, Bucket] = {}
        if requests_per_second:
            self._buckets["requests"] = Bucket(requests_per_second, burst_seconds)
        if tokens_per_second:
            self._buckets["tokens"] = Bucket(tokens_per_second, burst_seconds)
        self._latency, self._answer_tokens, self._seed = latency, answer_tokens, seed
        self._spread = math.log((latency_p95 or latency) / latency) / Z95 if latency else 0.0
        self._failure_rate, self._random = failure_rate, Random(seed)
        self._retry_after, self._remaining_headers = retry_after, remaining_headers
        self._began: float | None = None
        self._calls: list[tuple[float, str, bool]] = []
        self._at_last_call: dict[str, Json] = {}

    def kind(self, method: str, path: str) -> str:
        return "limit" if path == "/limit" else super().kind(method, path)

    def healthy(self, call: Call) -> Reply:
        reply = super().healthy(call)
        if call.kind != "chat" or reply.status != 200 or isinstance(reply.body, str | None) or callable(reply.body):
            return reply
        now = time.monotonic()
        spent = reply.body["usage"]
        if self._answer_tokens:
            spent["completion_tokens"] = self._uneven(call.prompt)
            spent["total_tokens"] = spent["prompt_tokens"] + spent["completion_tokens"]
        if "tokens" in self._buckets:
            self._buckets["tokens"].take(spent["completion_tokens"], now)
            self._at_last_call = self._use(now)
        return replace(reply, headers=self._remaining(now))

    def stats(self) -> Json:
        """Return, beside the usual: calls with their clients and times (seconds since the first), and limits' use.

        The use of a limit is counted from the first call to the last that was accepted or answered (`limits`), and to
        this moment (`limits_now`): `allowed` is what somebody could have taken in that time.
        """
        clients: dict[str, Counter[str]] = {}
        for _, client, accepted in self._calls:
            clients.setdefault(client, Counter())["accepted" if accepted else "refused"] += 1
        return super().stats() | {
            "accepted_at": [at for at, _, accepted in self._calls if accepted],
            "refused_at": [at for at, _, accepted in self._calls if not accepted],
            "clients": clients,
            "limits": self._at_last_call,
            "limits_now": self._use(time.monotonic()),
        }

    def _admit(self, call: Call) -> Reply | None:
        if call.kind == "limit":
            return self._change(call.body)
        if call.kind != "chat":
            return None
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        client = call.headers.get("x-client") or call.headers.get("authorization", "").removeprefix("Bearer ")
        waits = {name: bucket.wait(now) for name, bucket in self._buckets.items()}
        accepted = not any(waits.values())
        self._calls.append((now - self._began, client, accepted))
        if not accepted:
            return self._refuse(waits, now)
        for name, bucket in self._buckets.items():
            bucket.take(1 if name == "requests" else input_tokens(call.body), now)
        self._at_last_call = self._use(now)
        delay = self._latency * self._random.lognormvariate(0, self._spread)
        if self._random.random() < self._failure_rate:
            return replace(self.server_error(), delay=delay)
        return Reply(delay=delay)

    def _refuse(self, waits: dict[str, float], now: float) -> Reply:
        name, wait = max(waits.items(), key=lambda each: each[1])
        reply = self.error(429, f"Rate limit reached for {name} per min.", "rate_limit_exceeded", name)
        headers = {"retry-after": str(max(1, math.ceil(wait)))} if self._retry_after else {}
        return replace(reply, headers=headers | self._remaining(now))

    def _remaining(self, now: float) -> dict[str, str]:
        """Return the headers of https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers."""
        found: dict[str, str] = {}
        for name, bucket in self._buckets.items() if self._remaining_headers else ():
            bucket.look(now)
            found[f"x-ratelimit-limit-{name}"] = f"{bucket.rate * 60:.0f}"
            found[f"x-ratelimit-remaining-{name}"] = f"{max(0.0, bucket.level):.0f}"
            found[f"x-ratelimit-reset-{name}"] = f"{(bucket.capacity - bucket.level) / bucket.rate * 1000:.0f}ms"
        return found

    def _change(self, body: Json) -> Reply:
        for name, rate in body.items():
            self._buckets[name.removesuffix("_per_second")].refill_at(rate, time.monotonic())
        return Reply(body={"limits": {name: bucket.rate for name, bucket in self._buckets.items()}})

    def _use(self, now: float) -> dict[str, Json]:
        for bucket in self._buckets.values():
            bucket.look(now)
        return {name: {"allowed": bucket.allowed, "taken": bucket.taken} for name, bucket in self._buckets.items()}

    def _uneven(self, prompt: str) -> int:
        """Draw a length whose mean is the one that was asked for: most are short, some are several times as long."""
        spread = 0.8
        drawn = Random(f"{self._seed} {prompt}").lognormvariate(-spread * spread / 2, spread)
        return max(1, round(drawn * (self._answer_tokens or 1)))


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="Serve OpenAI's API on 127.0.0.1 within limits.")
    parser.add_argument("--port", type=int, default=0, help="0 for a free one")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds that an answer takes")
    parser.add_argument(
        "--latency-p95", type=float, help="95th percentile, for latencies that vary; --latency is the median then"
    )
    parser.add_argument("--failure-rate", type=float, default=0.0, help="share of calls that are answered with 500")
    parser.add_argument("--requests-per-second", type=float)
    parser.add_argument("--tokens-per-second", type=float)
    parser.add_argument(
        "--burst-seconds", type=float, default=0.2, help="seconds' worth of a limit that may be used at once"
    )
    parser.add_argument("--no-retry-after", dest="retry_after", action="store_false")
    parser.add_argument("--remaining-headers", action="store_true", help="send x-ratelimit-*")
    parser.add_argument("--answer-tokens", type=int, help="mean of the varying lengths in `usage`")
    parser.add_argument("--seed", type=int, default=0)
    options: dict[str, Any] = vars(parser.parse_args())
    with contextlib.suppress(KeyboardInterrupt), LimitedServer(**options) as server:
        print(server.base_url, flush=True)
        server.wait()


if __name__ == "__main__":
    main()
