"""Simulated provider in virtual time, and the simulated core that the calls of a process share."""

from __future__ import annotations

import asyncio
import math
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from batch_llm.classifiers.retryable_categories import as_info
from batch_llm.errors import BatchLLMError, ErrorClassifier, ErrorInfo
from batch_llm.strategies.base import LLMCallStrategy

from .scenario import Scenario

REFUSAL_SECONDS = 0.02
"""Latency of a refused call."""

ANSWER_SPREAD = 0.8
"""Spread of answer lengths (log-normal): most answers are short, some are several times longer."""


class SimulatedError(BatchLLMError):
    """Error of a call that the simulated provider refused or failed."""

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(info.category)
        self.info = info


class SimulatedErrors(ErrorClassifier):
    """Error classifier for `SimulatedError` and timeouts."""

    def classify(self, exception: Exception) -> ErrorInfo:
        if isinstance(exception, SimulatedError):
            return exception.info
        return as_info("timeout" if isinstance(exception, TimeoutError) else "programming")


class Bucket:
    """Token bucket of a limit that refills at a rate, holds up to `burst_seconds` of it, and may go negative."""

    def __init__(self, rate: float, burst_seconds: float) -> None:
        self._rate = rate
        self._most = self._level = max(1.0, rate * burst_seconds)
        self._at = 0.0

    def wait(self, now: float) -> float:
        """Return the seconds until one token is available; 0 if one is available now."""
        self._level = min(self._most, self._level + (now - self._at) * self._rate)
        self._at = now
        return 0.0 if self._level >= 1 - 1e-9 else (1 - self._level) / self._rate

    def take(self, cost: float) -> None:
        """Remove `cost` tokens."""
        self._level -= cost


@dataclass
class Counts:
    """Calls and tokens that the provider received and billed."""

    calls: int = 0
    refused: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class Provider:
    """Simulated provider that enforces its limits and answers after some latency.

    Args:
        scenario: Limits, latencies and failures.
        share: Share of the limits that is available to the simulated processes.
    """

    def __init__(self, scenario: Scenario, share: float) -> None:
        self._scenario = scenario
        self._random = Random(scenario.items)
        self._buckets = {
            name: Bucket(limit / 60 * share, scenario.burst_seconds)
            for name, limit in asdict(scenario.limits).items()
            if limit
        }
        self.counts = Counts()

    async def call(self) -> dict[str, int]:
        """Make a call and return its token usage.

        Raises:
            SimulatedError: The call was refused or failed.
        """
        scenario, random, counts = self._scenario, self._random, self.counts
        counts.calls += 1
        self._admit(asyncio.get_running_loop().time())
        failed = random.random() < scenario.failure_rate
        await asyncio.sleep(random.lognormvariate(math.log(scenario.latency), scenario.latency_spread))
        if failed:
            counts.failed += 1
            raise SimulatedError(as_info("server_error"))
        sent, received = round(scenario.input_tokens), self._answer_tokens()
        counts.input_tokens += sent
        counts.output_tokens += received
        self._take(received, "tokens_per_minute", "output_tokens_per_minute")
        return {"input_tokens": sent, "output_tokens": received, "total_tokens": sent + received}

    def _admit(self, now: float) -> None:
        wait = max((bucket.wait(now) for bucket in self._buckets.values()), default=0.0)
        if wait or self._random.random() < self._scenario.rate_limited:
            self.counts.refused += 1
            raise SimulatedError(as_info("rate_limit", float(max(1, math.ceil(wait)))))
        self._take(1, "requests_per_minute")
        self._take(round(self._scenario.input_tokens), "tokens_per_minute", "input_tokens_per_minute")

    def _take(self, cost: float, *limits: str) -> None:
        for limit in limits:
            if bucket := self._buckets.get(limit):
                bucket.take(cost)

    def _answer_tokens(self) -> int:
        mean = self._scenario.output_tokens
        return round(mean * self._random.lognormvariate(-ANSWER_SPREAD * ANSWER_SPREAD / 2, ANSWER_SPREAD))


class Core:
    """Simulated core that the calls of a process use one after another.

    Attributes:
        busy: Seconds for which the core was used.
    """

    def __init__(self) -> None:
        self._free_at = 0.0
        self.busy = 0.0

    async def work(self, seconds: float) -> None:
        """Use the core for `seconds`, after all earlier requests."""
        if not seconds:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + seconds
        self.busy += seconds
        await asyncio.sleep(self._free_at - now)


class SimulatedCalls(LLMCallStrategy[None]):
    """Strategy of a simulated process: each call uses half of its CPU before the provider's latency and half after."""

    def __init__(self, provider: Provider, core: Core, seconds: float) -> None:
        self._provider, self._core, self._half = provider, core, seconds / 2

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[Any, dict[str, int]]:
        await self._core.work(self._half)
        try:
            return None, await self._provider.call()
        except SimulatedError:
            await asyncio.sleep(REFUSAL_SECONDS)
            raise
        finally:
            await self._core.work(self._half)
