"""Settings of a run, checked when they are made; a bad one says its value, the rule and the fix."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, fields
from typing import ClassVar

# Read by pydantic where a job or a deployment carries these: a misspelt setting is an error, not ignored.
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
        raise ValueError(f"{place} is {value!r}; it must be a whole number: set it to {max(least, 1)}, for example")
    if value < least:
        raise ValueError(f"{place} is {value!r}; it must be {least} or more: raise it")


def _flag(owner: object, name: str) -> None:
    value: object = getattr(owner, name)
    if not isinstance(value, bool):
        raise ValueError(f"{type(owner).__name__}.{name} is {value!r}; it must be true or false")


@dataclass
class RetryConfig:
    """How often and how patiently something is tried again.

    The wait after attempt `n` is `min(max_wait, initial_wait * exponential_base ** (n - 1))` seconds; with `jitter`, a
    uniform draw from half of that to all of it.

    Attributes:
        max_attempts: Tries in all, the first included.
        initial_wait: Seconds before the second try.
        max_wait: The longest wait in seconds.
        exponential_base: Growth of the wait from try to try.
        jitter: Whether waits are drawn at random, so that many callers do not come back together.

    Raises:
        ValueError: A value breaks its rule.
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
    """What happens after a provider said "too many requests".

    Attributes:
        cooldown_seconds: Pause of the whole run where the provider names none.
        slow_start_items: Calls after a cooldown that are spaced out.
        slow_start_initial_delay: Seconds between the first of them.
        slow_start_final_delay: Seconds between the last of them.
        backoff_multiplier: Growth of the pause with every further rate limit without a success between.
        max_rate_limit_retries: Tries of one item that may end in a rate limit; they do not count as attempts.
        max_cooldown_seconds: The longest that a pause grows to; a larger `cooldown_seconds` counts as it is.

    Raises:
        ValueError: A value breaks its rule.
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
    """What a provider lets an account do in a minute; None where it is not known, and found out.

    Attributes:
        requests_per_minute: Calls.
        tokens_per_minute: Tokens sent and received, together.
        input_tokens_per_minute: Tokens sent, where they have a limit of their own.
        output_tokens_per_minute: Tokens received, where they have a limit of their own.

    Raises:
        ValueError: A value breaks its rule.
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
    """How one processor runs.

    Attributes:
        max_workers: Calls at once, at most.
        timeout_per_item: Seconds for one attempt's call, and for one `prepare` of a strategy; waiting for a worker, a
            cooldown or a backoff does not count.
        retry: Attempts of one item and the waits between them.
        rate_limit: Pauses of the whole run.
        progress_interval: Items between two log lines on progress.
        enable_detailed_logging: Log every attempt at debug level.
        max_queue_size: Items that wait for a worker, at most; 0 for no limit.
        dry_run: Make no call; answer with the strategy's own `dry_run(prompt)` or a text that names the item.
        hook_timeout: Seconds that one call of a hook may take: middleware, post-processor, progress callback. A hook
            that takes longer counts as one that raised; a plain function cannot be stopped, so its thread goes on. None
            for no limit: then hooks that take more than 60 s are only named in the log.

    Raises:
        ValueError: A value breaks its rule.
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
    """Return a copy of `config`, which may have been changed since it was made; raises ValueError."""
    if not isinstance(config, ProcessorConfig):
        raise ValueError(f"config is {config!r:.200}; it must be a ProcessorConfig")
    own = copy.copy(config)
    own.__post_init__()
    own.retry, own.rate_limit = copy.copy(own.retry), copy.copy(own.rate_limit)
    own.retry.__post_init__()
    own.rate_limit.__post_init__()
    return own
