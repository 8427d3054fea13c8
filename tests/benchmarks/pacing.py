"""One run under a limit in a process of its own, with a server of its own.

    python -m tests.benchmarks.pacing '{"name": "many at once", "pacer": "semaphore of 500", "items": 500}'

prints it as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from urllib.parse import urljoin

import aiohttp

from .fresh import fresh
from .pacers import PACERS, PROMPT_WORDS, Calls, Task, calling
from .serving import Served, listening

REQUESTS_A_SECOND = 50.0
ANSWER_TOKENS = 200
TOKENS_A_SECOND = REQUESTS_A_SECOND * (PROMPT_WORDS + ANSWER_TOKENS)
LATENCY_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Scenario:
    """Settings of a run.

    Attributes:
        pacer: Who makes the calls.
        limit: What is limited: "requests", to 50 a second, or "tokens", to those of 50 average calls.
        told: Whether the limit is set in the pacer.
        burst_seconds: How much of the limit may be used at once.
        retry_after: Whether a refusal tells when to come back.
        change: What the limit is multiplied by in the middle of the run.
        seed: Decides on the length of each answer.
        longest_seconds: When it is stopped; it counts with what it has by then.
    """

    name: str
    pacer: str
    items: int
    limit: str = "requests"
    told: bool = False
    burst_seconds: float = 0.2
    retry_after: bool = True
    change: float = 1.0
    seed: int = 0
    longest_seconds: float = 240.0

    @property
    def a_second(self) -> float:
        """The limit at first."""
        return REQUESTS_A_SECOND if self.limit == "requests" else TOKENS_A_SECOND


@dataclass(frozen=True, slots=True)
class Pace:
    """Results of a run.

    Attributes:
        items, succeeded: All items, and those with an answer.
        seconds: By the clock.
        accepted, refused: Requests, by what the server did with them.
        used: Share of the limit that was used, from the first call to the last that was accepted, or to the stop.
        trace: For every second of the run, the requests accepted and refused.
    """

    items: int
    succeeded: int
    seconds: float
    accepted: int
    refused: int
    used: float
    trace: list[tuple[int, int]]

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, self.accepted + self.refused)


def paced(scenario: Scenario) -> Pace:
    """Run it in a process of its own.

    Raises:
        RuntimeError: It failed; the message has the process's own words.
    """
    found = fresh(
        "tests.benchmarks.pacing", json.dumps(asdict(scenario)), timeout_seconds=scenario.longest_seconds + 60
    )
    return Pace(**found)


async def here(scenario: Scenario) -> Pace:
    """Run it in this process."""
    with listening("tests.benchmarks.limited", *_settings(scenario)) as server:
        async with calling(server.url) as calls:
            strategy = Calls(calls, scenario.items, lambda: _change(server, scenario))
            told = {f"{scenario.limit}_per_minute": scenario.a_second * 60} if scenario.told else {}
            run = PACERS[scenario.pacer](Task(scenario.items, strategy, **told))
            began, succeeded = time.perf_counter(), None
            try:
                async with asyncio.timeout(scenario.longest_seconds):
                    succeeded = await run
            except TimeoutError:
                pass
            return _pace(scenario, succeeded, time.perf_counter() - began, server)


def _settings(scenario: Scenario) -> list[object]:
    limit = (f"--{scenario.limit}-per-second", scenario.a_second, "--burst-seconds", scenario.burst_seconds)
    silent = [] if scenario.retry_after else ["--no-retry-after"]
    answers = ("--latency", LATENCY_SECONDS, "--answer-tokens", ANSWER_TOKENS, "--seed", scenario.seed)
    return [*limit, *answers, *silent]


async def _change(server: Served, scenario: Scenario) -> None:
    if scenario.change != 1.0:
        limit = {f"{scenario.limit}_per_second": scenario.a_second * scenario.change}
        async with aiohttp.request("POST", urljoin(server.url, "/limit"), json=limit, raise_for_status=True):
            pass


def _pace(scenario: Scenario, succeeded: int | None, seconds: float, server: Served) -> Pace:
    stats = server.stats()
    accepted, refused = (Counter(map(int, stats[name])) for name in ("accepted_at", "refused_at"))
    use = stats["limits_now" if succeeded is None else "limits"][scenario.limit]
    return Pace(
        items=scenario.items,
        succeeded=accepted.total() if succeeded is None else succeeded,
        seconds=seconds,
        accepted=accepted.total(),
        refused=refused.total(),
        used=use["taken"] / use["allowed"],
        trace=[(accepted[second], refused[second]) for second in range(max(accepted | refused) + 1)],
    )


def main() -> None:
    """Run once and print it."""
    parser = argparse.ArgumentParser(description="Make one run under a limit.")
    parser.add_argument("scenario", type=json.loads, help="the fields of a Scenario as JSON")
    print(json.dumps(asdict(asyncio.run(here(Scenario(**parser.parse_args().scenario))))))


if __name__ == "__main__":
    main()
