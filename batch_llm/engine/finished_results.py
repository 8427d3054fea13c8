"""The results of a run that nobody has claimed yet, in the order in which they came and in that of their items."""

from __future__ import annotations

from collections import deque

from batch_llm.items import AnyResult

from .work_queue import WorkQueue


class Finished(WorkQueue[AnyResult]):
    """A queue of results that knows the place of each result's item."""

    def __init__(self) -> None:
        super().__init__()
        # Beside the results, not in pairs with them: the garbage collector walks over every pair.
        self._positions: deque[int] = deque()

    def add(self, position: int, result: AnyResult) -> None:
        """Add the result of the item that was taken at `position`."""
        self._positions.append(position)
        self.put(result)

    def take(self) -> AnyResult:
        """Hand out the oldest result of those that are there."""
        self._positions.popleft()
        return self._items.popleft()

    def in_order(self) -> list[AnyResult]:
        """Return the results in the order of their items."""
        by_position = dict(zip(self._positions, self, strict=True))
        return [by_position[position] for position in sorted(by_position)]
