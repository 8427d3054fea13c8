"""What a call is expected to use: a guess that learns from answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TOKENS_PER_CHARACTER = 0.25
LEAST_WEIGHT = 0.02
"""Of the newest answer in the average, once there have been fifty."""


@dataclass(slots=True)
class TokenEstimate:
    """Averages over the answers so far, the newest ones weighing more.

    Attributes:
        a_character: Input tokens for each character of the prompt, instructions and schema included.
        output_tokens: Of an answer.
        cached_share: How much of the input comes from the provider's cache.
        answers: How many it has learnt from; 0 for a guess.
        price_factor: What a call costs beside the plain price of its tokens, for a service tier or writes to a cache.
    """

    a_character: float = TOKENS_PER_CHARACTER
    output_tokens: float = 1000.0
    cached_share: float = 0.0
    answers: int = 0
    price_factor: float = 1.0

    def input_tokens(self, size: int) -> float:
        """Return what a prompt of `size` characters is expected to have."""
        tokens = size * self.a_character
        return tokens if tokens > 1.0 else 1.0

    @property
    def weight(self) -> float:
        """Of the newest answer in the averages."""
        return 1 / self.answers if self.answers * LEAST_WEIGHT < 1 else LEAST_WEIGHT

    def learn_price(self, paid: float, plain: float) -> None:
        """Learn what the newest answer cost, beside the plain price of its tokens."""
        if plain > 0 and self.answers:
            self.price_factor += self.weight * (paid / plain - self.price_factor)

    def learn(self, size: int, usage: Mapping[str, int]) -> None:
        """Learn from an answer to a prompt of `size` characters."""
        sent, received = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
        if not sent and not received:
            return  # the provider does not tell
        self.answers += 1
        weight = 1 / self.answers if self.answers * LEAST_WEIGHT < 1 else LEAST_WEIGHT  # `weight`, for every call
        self.output_tokens += weight * (received - self.output_tokens)
        if size > 0:
            self.a_character += weight * (sent / size - self.a_character)
        if sent > 0:
            self.cached_share += weight * (usage.get("cached_input_tokens", 0) / sent - self.cached_share)
