"""Input of a simulation: the run, the provider and the machines."""

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
"""Factor for the number of workers above limit times mean latency, because latencies vary."""

WORKERS_WITHOUT_LIMIT = 50

MOST_SPREAD = 1_000
"""Maximum ratio of the 95th percentile to the median of the latency; beyond that the mean is meaningless."""

MOST_WORKERS_A_PROCESS = 10_000
"""Maximum workers per process: more than an event loop can run, and than can be simulated in a few minutes."""

_MOST = {"latency": 86_400.0, "call_seconds": 3_600.0, "input_tokens": 1e7, "output_tokens": 1e7}
_MOST_ANYWHERE = 1e15
_ONE_OR_MORE = ("items", "max_workers", "processes", "machines", "cores", "shard_size")
_LIMITS = ("requests_per_minute", "tokens_per_minute", "input_tokens_per_minute", "output_tokens_per_minute")
_MORE_THAN_NONE = (*_LIMITS, "burst_seconds", "latency")


@dataclass(frozen=True)
class Scenario:
    """A run to be simulated.

    Attributes:
        items: Items to call. Items with an answer in the ledger cost almost nothing and are not included.
        requests_per_minute: The provider's limit of requests.
        tokens_per_minute: The provider's limit of input and output tokens together.
        input_tokens_per_minute: The provider's limit of input tokens.
        output_tokens_per_minute: The provider's limit of output tokens.
        limits_known: Whether the limits are set in the job; otherwise the run detects them.
        burst_seconds: Seconds' worth of a limit that the provider allows at once after a cooldown.
        latency: Median latency of an answer in seconds.
        latency_p95: 95th percentile of the latency in seconds.
        input_tokens: Mean input tokens of a call.
        output_tokens: Mean output tokens of a call.
        model: Model, for its published prices.
        prices: Own prices, which take precedence.
        max_workers: Concurrent calls in the whole run; None for as many as the limits and the latency require.
        processes: Processes per machine; None for up to one per core, with 50 workers each.
        machines: Number of machines.
        cores: Cores per machine; None for those of this machine.
        shard_size: Items per shard; None for a few minutes of work.
        canary: Items that run alone before all others, if the run has more than ten times as many; as in a first run.
        failure_rate: Share of calls that fail with a transient error, such as 503.
        rate_limited: Share of calls that are refused even within the limit, because others use it too.
        call_seconds: CPU seconds of a call and its answer.
        config: Timeouts and retries of calls.
        shard_retry: Retries of shards.

    Raises:
        JobError: A value is not valid.

    Example:
        >>> Scenario(items=1_000_000, requests_per_minute=6_000, latency=2.0, latency_p95=4.0).rate_limit
        100.0
    """

    items: int
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    input_tokens_per_minute: float | None = None
    output_tokens_per_minute: float | None = None
    limits_known: bool = True
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
                f"there are {self.workers:,.15g} concurrent calls in {self.at_once:,} processes, which can run "
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
        """Mean latency of an answer in seconds."""
        return self.latency * math.exp(self.latency_spread**2 / 2)

    @property
    def rate_limit(self) -> float | None:
        """Calls per second that the limits allow; None without limits."""
        sent, received = self.input_tokens, self.output_tokens
        limits = zip(_LIMITS, (1, sent + received, sent, received), strict=True)
        rates = [limit / 60 / cost for name, cost in limits if cost and (limit := getattr(self, name)) is not None]
        return min(rates, default=None)

    @property
    def workers(self) -> int:
        """Concurrent calls in the whole run."""
        if self.max_workers is not None:
            return self.max_workers
        if self.rate_limit is None:
            return WORKERS_WITHOUT_LIMIT * self.machines
        return max(5, math.ceil(ENOUGH * self.rate_limit * (self.mean_latency + self.call_seconds)))

    @property
    def cores_each(self) -> int:
        """Cores per machine."""
        return self.cores or cores()

    @property
    def shards(self) -> int:
        """Number of shards of the run."""
        return math.ceil((self.items - self.sent_ahead) / self.items_a_shard) + (self.sent_ahead > 0)

    @property
    def items_a_shard(self) -> int:
        """Items per shard."""
        if self.shard_size is not None:
            return self.shard_size
        pace = {"seconds": self.mean_latency, "per_second": self.rate_limit}
        return shard_size(self.items, workers=self.workers, processes=min(self._room, self.workers), **pace)

    @property
    def at_once(self) -> int:
        """Processes that run shards, on all machines; at most the number of shards and of workers."""
        return max(1, min(self._room, self.shards, self.workers))

    @property
    def _room(self) -> int:
        helpful = math.ceil(self.workers / WORKERS_PER_PROCESS / self.machines)
        return self.machines * (self.processes or min(self.cores_each, helpful))

    @property
    def has_pool(self) -> bool:
        """Whether shards run in other processes than the flow's."""
        return self.at_once > 1 or self.machines > 1 or self.processes is not None

    @property
    def sent_ahead(self) -> int:
        """Items of the canary."""
        return self.canary if self.items > MIN_ITEMS_RATIO * self.canary else 0

    @property
    def core_seconds(self) -> float:
        """Seconds for which a call occupies its process, including waits if there are more processes than cores."""
        return self.call_seconds * max(1.0, self.at_once / self.machines / self.cores_each)


def _check(name: str, value: float) -> None:
    least, most = 1 if name in _ONE_OR_MORE else 0, _MOST.get(name, _MOST_ANYWHERE)
    if value > most:
        raise JobError(f"{name} is too large: it must be {most:,.0f} or less")
    if math.isnan(value) or value < least or (value == 0 and name in _MORE_THAN_NONE):
        rule = "more than 0" if name in _MORE_THAN_NONE else f"{least} or more"
        raise JobError(f"{name} is {value:g}: it must be {rule}")
