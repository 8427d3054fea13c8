"""Settings of a run, validated at construction; an error contains the value, the rule and the fix."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, fields
from typing import ClassVar

# Read by pydantic where a job or a deployment contains these: a misspelt setting is an error, not ignored.
_STRICT: dict[str, str] = {"extra": "forbid"}


def _number(owner: object, name: str, *, least: float = 0.0, above: bool = False) -> float:
    value: object = getattr(owner, name)
    place = f"{type(owner).__name__}.{name}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{place} is {value!r}; it must be a finite number: set it to {least + 1:g}, for example")
    if value < least or (above and value == least):
        rule = f"greater than {least:g}" if above else f"{least:g} or more"
        raise ValueError(f"{place} is {value!r}; it must be {rule}: raise it")
    return float(value)


def _whole(owner: object, name: str, *, least: int = 0) -> None:
    value: object = getattr(owner, name)
    place = f"{type(owner).__name__}.{name}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{place} is {value!r}; it must be an integer: set it to {max(least, 1)}, for example")
    if value < least:
        raise ValueError(f"{place} is {value!r}; it must be {least} or more: raise it")


def _flag(owner: object, name: str) -> None:
    value: object = getattr(owner, name)
    if not isinstance(value, bool):
        raise ValueError(f"{type(owner).__name__}.{name} is {value!r}; it must be true or false")


@dataclass
class RetryConfig:
    """Number of attempts per item and the backoff between them.

    The wait after attempt `n` is `min(max_wait, initial_wait * exponential_base ** (n - 1))` seconds. With `jitter`, it
    is drawn uniformly from half of that value to the full value.

    Attributes:
        max_attempts: Maximum number of attempts, including the first.
        initial_wait: Seconds before the second attempt.
        max_wait: Longest wait in seconds.
        exponential_base: Factor by which the wait grows from attempt to attempt.
        jitter: Whether waits are randomized, so that many callers do not retry at the same moment.

    Raises:
        ValueError: A value is out of range.

    Example:
        config = ProcessorConfig(retry=RetryConfig(max_attempts=5, initial_wait=2.0))
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    max_attempts: int = 3
    initial_wait: float = 1.0
    max_wait: float = 60.0
    exponential_base: float = 2.0
    jitter: bool = True

    def __post_init__(self) -> None:
        _whole(self, "max_attempts", least=1)
        initial = _number(self, "initial_wait", above=True)
        if _number(self, "max_wait") < initial:
            raise ValueError(
                f"RetryConfig.max_wait is {self.max_wait!r}; it must be initial_wait ({self.initial_wait!r}) or more: "
                "raise it, or lower initial_wait"
            )
        _number(self, "exponential_base", least=1)
        _flag(self, "jitter")


@dataclass
class RateLimitConfig:
    """Cooldown and slow start after a rate limit (HTTP 429).

    Attributes:
        cooldown_seconds: Cooldown of the whole run if the provider does not suggest one.
        slow_start_items: Number of calls after a cooldown that are spaced out.
        slow_start_initial_delay: Seconds between the first calls of a slow start.
        slow_start_final_delay: Seconds between the last calls of a slow start.
        backoff_multiplier: Factor by which the cooldown grows with each rate limit that follows without a success in
            between.
        max_rate_limit_retries: Calls of one item that may end in a rate limit; they do not count as attempts.
        max_cooldown_seconds: Longest cooldown after growth; a larger `cooldown_seconds`, and a wait that the provider
            suggests, are used unchanged.

    Raises:
        ValueError: A value is out of range.

    Example:
        config = ProcessorConfig(rate_limit=RateLimitConfig(cooldown_seconds=60, slow_start_items=20))
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    cooldown_seconds: float = 300.0
    slow_start_items: int = 50
    slow_start_initial_delay: float = 2.0
    slow_start_final_delay: float = 0.1
    backoff_multiplier: float = 1.5
    max_rate_limit_retries: int = 20
    max_cooldown_seconds: float = 600.0

    def __post_init__(self) -> None:
        _number(self, "cooldown_seconds")
        _whole(self, "slow_start_items")
        final = _number(self, "slow_start_final_delay")
        if _number(self, "slow_start_initial_delay") < final:
            raise ValueError(
                f"RateLimitConfig.slow_start_initial_delay is {self.slow_start_initial_delay!r}; it must be "
                f"slow_start_final_delay ({self.slow_start_final_delay!r}) or more: raise it, or lower the final delay"
            )
        _number(self, "backoff_multiplier", least=1)
        _whole(self, "max_rate_limit_retries")
        _number(self, "max_cooldown_seconds")


@dataclass
class Limits:
    """Limits per minute of a provider account; a limit of None is unknown and is detected during the run.

    Attributes:
        requests_per_minute: Calls per minute.
        tokens_per_minute: Tokens per minute, input and output together.
        input_tokens_per_minute: Input tokens per minute, if the provider limits them separately.
        output_tokens_per_minute: Output tokens per minute, if the provider limits them separately.

    Raises:
        ValueError: A limit is not a positive number.

    Example:
        governor = Governor(Limits(requests_per_minute=600, tokens_per_minute=200_000))
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    input_tokens_per_minute: float | None = None
    output_tokens_per_minute: float | None = None

    def __post_init__(self) -> None:
        for limit in fields(self):
            if getattr(self, limit.name) is not None:
                _number(self, limit.name, above=True)


@dataclass
class ProcessorConfig:
    """Settings of a `ParallelBatchProcessor`.

    Attributes:
        max_workers: Maximum number of concurrent calls.
        timeout_per_item: Seconds for the call of one attempt and for one `prepare` of a strategy; waiting for a
            worker, a cooldown or a backoff does not count.
        retry: Number of attempts per item and the backoff between them.
        rate_limit: Cooldown and slow start after a rate limit.
        progress_interval: Number of items between two progress log lines.
        enable_detailed_logging: Log every attempt at debug level.
        max_queue_size: Maximum number of items that wait for a worker; 0 for no limit.
        dry_run: Make no calls; answer with the strategy's `dry_run(prompt)` or a text with the item id.
        hook_timeout: Seconds that one call of a hook may take: middleware, post-processor, progress callback. A hook
            that takes longer is treated as failed; a plain function cannot be stopped, so its thread continues. None
            for no limit: hooks that take more than 60 s are then only logged.

    Raises:
        ValueError: A value is out of range or has the wrong type.

    Example:
        config = ProcessorConfig(max_workers=20, timeout_per_item=60.0)
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    max_workers: int = 5
    timeout_per_item: float = 120.0
    retry: RetryConfig = field(default_factory=RetryConfig)
    rate_limit: RateLimitConfig = field(default_factory=RateLimitConfig)
    progress_interval: int = 10
    enable_detailed_logging: bool = False
    max_queue_size: int = 0
    dry_run: bool = False
    hook_timeout: float | None = None

    def __post_init__(self) -> None:
        _whole(self, "max_workers", least=1)
        _number(self, "timeout_per_item", above=True)
        if not isinstance(self.retry, RetryConfig):  # pyright: ignore[reportUnnecessaryIsInstance]  callers may be untyped
            raise ValueError(f"ProcessorConfig.retry is {self.retry!r}; it must be a RetryConfig")
        if not isinstance(self.rate_limit, RateLimitConfig):  # pyright: ignore[reportUnnecessaryIsInstance]  as above
            raise ValueError(f"ProcessorConfig.rate_limit is {self.rate_limit!r}; it must be a RateLimitConfig")
        _whole(self, "progress_interval", least=1)
        _flag(self, "enable_detailed_logging")
        _whole(self, "max_queue_size")
        _flag(self, "dry_run")
        if self.hook_timeout is not None:
            _number(self, "hook_timeout", above=True)


def checked(config: object) -> ProcessorConfig:
    """Return a validated copy of `config`, which may have been modified since its construction.

    Raises:
        ValueError: A value is out of range, or `config` is not a `ProcessorConfig`.
    """
    if not isinstance(config, ProcessorConfig):
        raise ValueError(f"config is {config!r:.200}; it must be a ProcessorConfig")
    own = copy.copy(config)
    own.__post_init__()
    own.retry, own.rate_limit = copy.copy(own.retry), copy.copy(own.rate_limit)
    own.retry.__post_init__()
    own.rate_limit.__post_init__()
    return own
