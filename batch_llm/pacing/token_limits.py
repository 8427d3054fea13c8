"""Token limits: an estimate is charged before a call and corrected afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from batch_llm.config import Limits

from .pacer import CallPermit
from .token_bucket import TokenBucket
from .token_estimate import TokenEstimate

_BURST_SECONDS = 0.1

_COUNTED = {
    "tokens_per_minute": (1, 1),
    "input_tokens_per_minute": (1, 0),
    "output_tokens_per_minute": (0, 1),
}
"""Limits, each with whether input tokens and output tokens count towards it."""


@dataclass(slots=True)
class _Limit:
    name: str
    per_second: float
    sent: int
    received: int
    bucket: TokenBucket = field(default_factory=lambda: TokenBucket(_BURST_SECONDS))


class TokenLimits:
    """Configured token limits, and an estimate of the tokens of a call that is learned from answers.

    Args:
        limits: Configured limits; token limits may be missing.
        output_tokens: Expected output tokens of an answer until there are answers.
    """

    def __init__(self, limits: Limits, output_tokens: float) -> None:
        self._estimate = TokenEstimate(output_tokens=output_tokens)
        self.limits: list[_Limit] = []
        self.set_limits(limits)

    def set_limits(self, limits: Limits) -> None:
        """Replace the limits."""
        values = {name: getattr(limits, name) for name in _COUNTED}
        self.limits = [_Limit(name, value / 60, *_COUNTED[name]) for name, value in values.items() if value is not None]

    def until(self, now: float, share: float, permit: CallPermit) -> float:
        """Return when a call may start with this share of the limits, and set the estimated tokens of its permit."""
        sent = permit.input_tokens = self._estimate.input_tokens(permit.size)
        received = permit.output_tokens = self._estimate.output_tokens
        start = now
        for limit in self.limits:
            cost = limit.sent * sent + limit.received * received
            free = limit.bucket.until(now, limit.per_second * share, cost)
            if free > start:
                start = free
        return start

    def take(self, sent: float, received: float) -> None:
        """Charge tokens to all limits; negative numbers are refunds."""
        for limit in self.limits:
            limit.bucket.take(limit.sent * sent + limit.received * received)

    def record_usage(self, permit: CallPermit, usage: Mapping[str, int]) -> None:
        """Replace the charged estimate of a call with its actual usage."""
        self.take(
            usage.get("input_tokens", 0) - permit.input_tokens, usage.get("output_tokens", 0) - permit.output_tokens
        )
        permit.input_tokens = permit.output_tokens = 0.0

    def learn(self, size: int, usage: Mapping[str, int]) -> None:
        """Update the estimate with the answer to a prompt of `size` characters."""
        self._estimate.learn(size, usage)

    def too_large(self, size: int) -> str:
        """Return why a prompt of `size` characters exceeds a limit per minute; empty if it does not."""
        tokens = self._estimate.input_tokens(size)
        for limit in self.limits:
            per_minute = 60 * limit.per_second
            if limit.sent * tokens > per_minute:
                return (
                    f"the prompt has about {tokens:,.0f} tokens, more than {limit.name} ({per_minute:,.0f}) allows: "
                    "shorten the prompt, or raise the limit"
                )
        return ""
