"""Draws the jitter of waits from a generator of its own: the module's belongs to everybody in the process."""

from __future__ import annotations

from contextvars import ContextVar
from random import Random

source: ContextVar[Random] = ContextVar("source", default=Random())  # noqa: B039  a generator is there to be shared
"""Where the draws of this context, and of the tasks that it starts, come from."""


def draw() -> float:
    """Return a number in [0, 1)."""
    return source.get().random()
