"""Draws the jitter of waits from a generator of its own: that of `random` belongs to everybody in the process."""

from __future__ import annotations

from contextvars import ContextVar
from random import Random

generator: ContextVar[Random] = ContextVar("generator", default=Random())  # noqa: B039  it is there to be shared
"""What this context draws from, and the tasks that it starts."""


def draw() -> float:
    """Return a number in [0, 1)."""
    return generator.get().random()
