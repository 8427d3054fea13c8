"""What is simulated: a run, a provider, machines."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from batch_llm.config import Limits, ProcessorConfig, RetryConfig
from batch_llm.errors import JobError
from batch_llm.jobs.cpu import cores
from batch_llm.jobs.planning.canary import MIN_ITEMS_RATIO
from batch_llm.jobs.planning.parallelism import WORKERS_PER_PROCESS, shard_size

from .measured_costs import CALL_SECONDS

Z95 = 1.6449
"""The normal distribution's 95th percentile, in standard deviations."""

ENOUGH = 1.3
"""Workers beyond what a limit and the mean latency need: latencies vary."""

WORKERS_WITHOUT_LIMIT = 50

MOST_SPREAD = 1_000
"""Times the median that the slowest answers take; beyond that a mean says nothing."""

MOST_WORKERS_A_PROCESS = 10_000
"""More than an event loop can carry, and than can be played out in a few minutes."""

_MOST = {"latency": 86_400.0, "call_seconds": 3_600.0, "input_tokens": 1e7, "output_tokens": 1e7}
_MOST_ANYWHERE = 1e15
_ONE_OR_MORE = ("items", "max_workers", "processes", "machines", "cores", "shard_size")
_LIMITS = ("requests_per_minute", "tokens_per_minute", "input_tokens_per_minute", "output_tokens_per_minute")
_MORE_THAN_NONE = (*_LIMITS, "burst_seconds", "latency")


@dataclass(frozen=True)
class Scenario:
    """A run to be simulated.

    Attributes:
        items: To be called; those that the ledger has an answer for cost next to nothing.
        requests_per_minute, tokens_per_minute: The provider's limits.
        input_tokens_per_minute, output_tokens_per_minute: Those of tokens sent, and of tokens received, alone.
        told: Whether the run is told the limits; else it finds them out.
        burst_seconds: How much of a limit the provider lets be used at once after a rest.
        latency: Seconds of an answer, the median.
        latency_p95: Seconds within which 95 of 100 answers come.
        input_tokens, output_tokens: Of a call, in the mean.
        model, prices: For the cost; a job's own prices win.
        max_workers: Calls at once in the whole run; None for as many as the limits and the latency need.
        processes: Of one machine; None for one for each core, where there are 50 workers for each.
        machines: Machines.
        cores: Of one machine; None for those of this one.
        shard_size: Items in one shard; None for as many as take some minutes.
        canary: Items that go alone before all others, where they are ten times as many; a first run has them.
        failure_rate: Share of calls that fail with an error that can pass, such as 503.
        rate_limited: Share of calls that are refused although the limit is kept: others use it too.
        call_seconds: CPU of a call and its answer.
        config: Timeouts and retries of calls.
        shard_retry: Retries of shards.

    Raises:
        JobError: A value breaks its rule.
    """

    items: int
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    input_tokens_per_minute: float | None = None
    output_tokens_per_minute: float | None = None
    told: bool = True
    burst_seconds: float = 1.0
    latency: float = 1.0
    latency_p95: float = 2.5
    input_tokens: float = 500
    output_tokens: float = 100
    model: str = "openai-chat:gpt-6-luna"
    prices: dict[str, Any] | None = None
    max_workers: int | None = None
    processes: int | None = None
    machines: int = 1
    cores: int | None = None
    shard_size: int | None = None
    canary: int = 0
    failure_rate: float = 0.0
    rate_limited: float = 0.0
    call_seconds: float = CALL_SECONDS
    config: ProcessorConfig = field(default_factory=ProcessorConfig)
    shard_retry: RetryConfig = field(default_factory=lambda: RetryConfig(max_attempts=3, initial_wait=30, max_wait=600))

    def __post_init__(self) -> None:
        for name in (each.name for each in fields(self)):
            value: object = getattr(self, name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                _check(name, value)
        if self.latency_p95 < self.latency:
            raise JobError(f"latency_p95 is {self.latency_p95:g}: it must be the median, {self.latency:g}, or more")
        if self.latency_p95 > MOST_SPREAD * self.latency:
            raise JobError(f"latency_p95 is {self.latency_p95:g}: it must be {MOST_SPREAD:,} times the median or less")
        for name in ("failure_rate", "rate_limited"):
            if getattr(self, name) >= 1:
                raise JobError(f"{name} is {getattr(self, name):g}: it must be less than 1")
        if self.workers > MOST_WORKERS_A_PROCESS * self.at_once:
            raise JobError(
                f"there are {self.workers:,.15g} calls at once in {self.at_once:,} processes, which can carry "
                f"{MOST_WORKERS_A_PROCESS:,} each: set max_workers lower, or processes or machines higher"
            )

    @property
    def limits(self) -> Limits:
        """The provider's limits."""
        return Limits(**{name: getattr(self, name) for name in _LIMITS})

    @property
    def latency_spread(self) -> float:
        """The standard deviation of the logarithm of the latency."""
        return math.log(self.latency_p95 / self.latency) / Z95

    @property
    def mean_latency(self) -> float:
        """Seconds of an answer, in the mean."""
        return self.latency * math.exp(self.latency_spread**2 / 2)

    @property
    def rate_limit(self) -> float | None:
        """Calls a second that the limits allow; None where there are none."""
        sent, received = self.input_tokens, self.output_tokens
        limits = zip(_LIMITS, (1, sent + received, sent, received), strict=True)
        rates = [limit / 60 / cost for name, cost in limits if cost and (limit := getattr(self, name)) is not None]
        return min(rates, default=None)

    @property
    def workers(self) -> int:
        """Calls at once in the whole run."""
        if self.max_workers is not None:
            return self.max_workers
        if self.rate_limit is None:
            return WORKERS_WITHOUT_LIMIT * self.machines
        return max(5, math.ceil(ENOUGH * self.rate_limit * (self.mean_latency + self.call_seconds)))

    @property
    def cores_each(self) -> int:
        """Cores of one machine."""
        return self.cores or cores()

    @property
    def shards(self) -> int:
        """Shards of the run."""
        return math.ceil((self.items - self.sent_ahead) / self.items_a_shard) + (self.sent_ahead > 0)

    @property
    def items_a_shard(self) -> int:
        """Items in one shard."""
        if self.shard_size is not None:
            return self.shard_size
        pace = {"seconds": self.mean_latency, "per_second": self.rate_limit}
        return shard_size(self.items, workers=self.workers, processes=min(self._room, self.workers), **pace)

    @property
    def at_once(self) -> int:
        """Processes that carry shards, on all machines; no more than there are shards and workers."""
        return max(1, min(self._room, self.shards, self.workers))

    @property
    def _room(self) -> int:
        helpful = math.ceil(self.workers / WORKERS_PER_PROCESS / self.machines)
        return self.machines * (self.processes or min(self.cores_each, helpful))

    @property
    def has_pool(self) -> bool:
        """Whether shards are carried by processes beside the flow's own."""
        return self.at_once > 1 or self.machines > 1 or self.processes is not None

    @property
    def sent_ahead(self) -> int:
        """Items that go alone before all others."""
        return self.canary if self.items > MIN_ITEMS_RATIO * self.canary else 0

    @property
    def core_seconds(self) -> float:
        """Seconds that a call keeps its process busy, also where more processes than cores share them."""
        return self.call_seconds * max(1.0, self.at_once / self.machines / self.cores_each)


def _check(name: str, value: float) -> None:
    least, most = 1 if name in _ONE_OR_MORE else 0, _MOST.get(name, _MOST_ANYWHERE)
    if value > most:
        raise JobError(f"{name} is too large: it must be {most:,.0f} or less")
    if math.isnan(value) or value < least or (value == 0 and name in _MORE_THAN_NONE):
        rule = "more than 0" if name in _MORE_THAN_NONE else f"{least} or more"
        raise JobError(f"{name} is {value:g}: it must be {rule}")
