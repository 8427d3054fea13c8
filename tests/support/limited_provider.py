"""A provider in virtual time that limits calls with a token bucket."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from batch_llm import LLMCallStrategy

from .scripted_strategies import now, rate_limit


@dataclass(eq=False)
class Limited(LLMCallStrategy[str]):
    """Strategy whose provider accepts `limit(now)` calls per second.

    Attributes:
        limit: Calls a second, by the time.
        burst: Seconds of the limit that may be used at once.
        says_when: Whether a refusal names the whole seconds to wait.
        least_wait: Seconds that it names at least.
        answer_tokens: Tokens of an answer, at least and at most.
        tokens: Tokens a second that it takes besides; its bucket holds ten seconds of them.
    """

    limit: Callable[[float], float]
    burst: float = 1.0
    says_when: bool = True
    least_wait: int = 1
    seconds: float = 0.2
    answer_tokens: tuple[int, int] = (1, 1)
    tokens: float = math.inf
    accepted: list[float] = field(default_factory=list[float])
    refused: list[float] = field(default_factory=list[float])

    def __post_init__(self) -> None:
        self._random = Random(7)
        self._level = self.burst * self.limit(0.0)
        self._tokens = 10 * self.tokens
        self._at = 0.0

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        limit, passed = self.limit(now()), now() - self._at
        self._at = now()
        self._level = min(max(1.0, self.burst * limit), self._level + passed * limit)
        self._tokens = min(10 * self.tokens, self._tokens + passed * self.tokens)
        if self._level < 1 or self._tokens <= 0:
            self.refused.append(now())
            await asyncio.sleep(0.01)
            raise rate_limit(
                max(self.least_wait, math.ceil((1 - self._level) / limit)) if self.says_when and limit else None
            )
        self.accepted.append(now())
        self._level -= 1
        sent, received = len(prompt) // 3, self._random.randint(*self.answer_tokens)
        self._tokens -= sent
        await asyncio.sleep(self.seconds * self._random.uniform(0.7, 1.3))
        self._tokens -= received
        return "ok", {"input_tokens": sent, "output_tokens": received, "total_tokens": sent + received}

    @property
    def share_refused(self) -> float:
        return len(self.refused) / (len(self.refused) + len(self.accepted))

    def share_used(self) -> float:
        """Share of the calls that the limit has allowed so far."""
        end, steps = now(), 1000
        allowed = sum(self.limit(end * step / steps) for step in range(steps)) * end / steps
        return len(self.accepted) / allowed
