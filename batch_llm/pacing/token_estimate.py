"""Estimate of the tokens of a call, learned from answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TOKENS_PER_CHARACTER = 0.25
LEAST_WEIGHT = 0.02
"""Weight of the newest answer in the averages, after fifty answers."""


@dataclass(slots=True)
class TokenEstimate:
    """Averages over the answers so far, with more weight on recent ones.

    Attributes:
        a_character: Input tokens per character of the prompt, including instructions and schema.
        output_tokens: Output tokens per answer.
        cached_share: Share of the input tokens that comes from the provider's cache.
        answers: Number of answers that the averages are based on; 0 for a guess.
        price_factor: Ratio of the actual price to the plain price of the tokens: service tier, writes to a cache, ...
    """

    a_character: float = TOKENS_PER_CHARACTER
    output_tokens: float = 1000.0
    cached_share: float = 0.0
    answers: int = 0
    price_factor: float = 1.0

    def input_tokens(self, size: int) -> float:
        """Return the expected number of input tokens for a prompt of `size` characters."""
        tokens = size * self.a_character
        return tokens if tokens > 1.0 else 1.0

    @property
    def weight(self) -> float:
        """Weight of the newest answer in the averages."""
        return 1 / self.answers if self.answers * LEAST_WEIGHT < 1 else LEAST_WEIGHT

    def learn_price(self, paid: float, plain: float) -> None:
        """Update the price factor with the price paid for the newest answer and the plain price of its tokens."""
        if plain > 0 and self.answers:
            self.price_factor += self.weight * (paid / plain - self.price_factor)

    def learn(self, size: int, usage: Mapping[str, int]) -> None:
        """Update the averages with the answer to a prompt of `size` characters."""
        sent, received = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
        if not sent and not received:
            return  # the provider does not report tokens
        self.answers += 1
        weight = 1 / self.answers if self.answers * LEAST_WEIGHT < 1 else LEAST_WEIGHT  # `weight`, for every call
        self.output_tokens += weight * (received - self.output_tokens)
        if size > 0:
            self.a_character += weight * (sent / size - self.a_character)
        if sent > 0:
            self.cached_share += weight * (usage.get("cached_input_tokens", 0) / sent - self.cached_share)
