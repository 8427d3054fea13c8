"""Finished results of a run that were not claimed yet, by completion and by the order of their items."""

from __future__ import annotations

from collections import deque

from batch_llm.items import AnyResult

from .work_queue import WorkQueue


class Finished(WorkQueue[AnyResult]):
    """Queue of results with the position of each result's item."""

    def __init__(self) -> None:
        super().__init__()
        # A separate deque instead of pairs, because the garbage collector visits every pair.
        self._positions: deque[int] = deque()

    def add(self, position: int, result: AnyResult) -> None:
        """Add the result of the item that was taken at `position`."""
        self._positions.append(position)
        self.put(result)

    def take(self) -> AnyResult:
        """Remove and return the oldest result."""
        self._positions.popleft()
        return self.items.popleft()

    def in_order(self) -> list[AnyResult]:
        """Return the results in the order of their items."""
        by_position = dict(zip(self._positions, self, strict=True))
        return [by_position[position] for position in sorted(by_position)]
