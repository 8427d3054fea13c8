"""Four processes share a limit of 50 requests a second through a Prefect server; one of them is killed.

    uv run python -m tests.reliability.shares

takes two minutes. The processes do not know the limit unless `--told` is set. The
provider on loopback is a token bucket that refuses with 429; it counts whose calls it took.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

from batch_llm import Governor, Limits, LLMWorkItem, ParallelBatchProcessor, ProcessorConfig
from tests.benchmarks.clients import Bare
from tests.benchmarks.fresh import CHECKOUT
from tests.benchmarks.report import Bound, judge, show
from tests.benchmarks.serving import Served, listening
from tests.support.prefect_server import eventually

MEMBERS = 4
A_SECOND = 50.0
WORKERS = 125
SCOPE = "openai-chat:shared-by-four"
BACK_SECONDS = 30.0
LOOK_SECONDS = 5.0
LEAST_USED = 0.85


@dataclass(frozen=True, slots=True)
class Outcome:
    """Results of a trial.

    Attributes:
        used: Share of the limit that was used from the moment when all made calls to the kill.
        refused: Share of the requests that were refused, over the whole time.
        taken: Requests of each process that the provider took in that time.
        back: Seconds from the kill until the rest used the limit again; infinite if they did not.
        api_calls: Requests a second that a process made to Prefect's API, the most of any.
    """

    used: float
    refused: float
    taken: dict[str, int]
    back: float
    api_calls: float

    def bounds(self) -> list[Bound]:
        """Return the bounds of a trial."""
        slowest = min(self.taken.values()) / max(self.taken.values())
        return [
            Bound(f"together at least {LEAST_USED:.0%} of the limit used", f"{self.used:.1%}", self.used >= LEAST_USED),
            Bound("less than 3 % refused", f"{self.refused:.2%}", self.refused < 0.03),
            Bound("the slowest gets at least half of what the fastest gets", f"{slowest:.0%}", slowest >= 0.5),
            Bound(
                f"the share of a killed process is used within {BACK_SECONDS:g} s", f"{self.back:g} s", self.back <= 30
            ),
            Bound("at most one request to Prefect in two seconds", f"{self.api_calls:.2f}/s", self.api_calls <= 0.5),
        ]


class _Counting(logging.Handler):
    """Log handler that counts the requests of the scope's thread."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += SCOPE in (record.threadName or "")


async def call(name: str, url: str, governor: Governor) -> None:
    """Call as fast as the governor allows, until SIGTERM."""
    processor = ParallelBatchProcessor[None, str, None](ProcessorConfig(max_workers=WORKERS), governor=governor)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, raise_for_status=True, headers={"x-client": name}) as session:
        strategy = Bare(session, url)
        items = (LLMWorkItem[None, str, None](f"{name}-{number}", strategy, "a prompt") for number in count())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, processor.stop)
        async for _ in processor.process_stream(items):
            pass


def member(name: str, url: str, told: bool) -> None:
    """Run one of the processes, and print its requests per second to Prefect."""
    from batch_llm.prefect.rate_limits.sharing import shared

    counting = _Counting()
    requests = logging.getLogger("httpx")
    requests.setLevel(logging.INFO)
    requests.addHandler(counting)
    requests.propagate = False
    limits = Limits(requests_per_minute=A_SECOND * 60 if told else None)
    governor = Governor(limits)
    began = time.monotonic()
    with shared(SCOPE, governor, limits):
        asyncio.run(call(name, url, governor))
    print(counting.count / (time.monotonic() - began))


@contextmanager
def prefect(home: Path) -> Generator[str]:
    """Run a Prefect server until the block ends, and yield its API URL."""
    from batch_llm.prefect.deployment.local_server import healthy

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    env = os.environ | {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "server.log").open("w") as log, subprocess.Popen(command, env=env, stdout=log, stderr=log) as server:
        try:
            eventually(lambda: healthy(url), seconds=120)
            yield url
        finally:
            server.terminate()


def play(seconds: float, after: float, *, told: bool, api: str = "") -> Outcome:
    """Let four processes call for `seconds`, kill one, and let the others continue for `after` seconds."""
    limit = ("--requests-per-second", A_SECOND, "--burst-seconds", 1.0, "--latency", 0.2)
    with ExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory(prefix="batch-llm-shares-")))
        env = os.environ | {"PREFECT_API_URL": api or stack.enter_context(prefect(home)), "PREFECT_HOME": str(home)}
        provider = stack.enter_context(listening("tests.benchmarks.limited", *limit))
        names = [f"process {number}" for number in range(1, MEMBERS + 1)]
        told_or_not = ["--told"] if told else []
        started = [stack.enter_context(_started([name, provider.url, *told_or_not], env)) for name in names]
        eventually(lambda: len(_taken(provider)) == MEMBERS, seconds=60)
        first = provider.stats()
        time.sleep(seconds)
        before = provider.stats()
        killed_at = max(before["accepted_at"])
        started[0].kill()
        time.sleep(after)
        for process in started:
            process.terminate()
        said = [float(process.communicate(timeout=120)[0] or 0) for process in started]
        return _outcome(first, before, provider.stats(), killed_at, max(said))


def _started(member: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.reliability.shares", "--member", *member]
    return subprocess.Popen(command, cwd=CHECKOUT, env=env, stdout=subprocess.PIPE, text=True)


def _taken(provider: Served) -> dict[str, int]:
    clients: dict[str, dict[str, int]] = provider.stats()["clients"]
    return {name: calls["accepted"] for name, calls in clients.items() if "accepted" in calls}


def _outcome(
    first: dict[str, Any], before: dict[str, Any], after: dict[str, Any], killed_at: float, api_calls: float
) -> Outcome:
    began, ended = (stats["limits_now"]["requests"] for stats in (first, before))
    used = (ended["taken"] - began["taken"]) / (ended["allowed"] - began["allowed"])
    accepted, refused = len(after["accepted_at"]), len(after["refused_at"])
    taken = {
        name: calls.get("accepted", 0) - first["clients"][name].get("accepted", 0)
        for name, calls in sorted(before["clients"].items())
    }
    back = next(_full(after["accepted_at"], killed_at), float("inf"))
    return Outcome(used, refused / (accepted + refused), taken, back, api_calls)


def _full(accepted_at: list[float], since: float) -> Iterator[float]:
    """Yield the seconds after which the limit was used; the first ones may be calls in flight."""
    for second in range(2, round(BACK_SECONDS) + 1):
        start = since + second
        taken = sum(start <= at < start + LOOK_SECONDS for at in accepted_at)
        if taken >= LEAST_USED * A_SECOND * LOOK_SECONDS:
            yield float(second)


def main() -> int:
    """Run the trial, print the table and the bounds, return the exit code."""
    parser = argparse.ArgumentParser(description="Measure how well processes share a limit.")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds before one process is killed")
    parser.add_argument("--told", action="store_true", help="set the limit in the processes")
    parser.add_argument("--no-bounds", action="store_true", help="judge nothing")
    parser.add_argument("--member", nargs=2, metavar=("NAME", "URL"), help="run one of the processes")
    options = parser.parse_args()
    if options.member:
        name, url = options.member
        member(name, url, options.told)
        return 0
    outcome = play(options.seconds, BACK_SECONDS + LOOK_SECONDS, told=options.told)
    show("Shares", ("process", "accepted requests"), [[[name, f"{taken:,}"] for name, taken in outcome.taken.items()]])
    return 0 if options.no_bounds else judge(outcome.bounds())


if __name__ == "__main__":
    raise SystemExit(main())
