"""Division of `config.max_workers` among the shards that run at once."""

from __future__ import annotations


class FreeWorkers:
    """Workers of a run that no shard has taken.

    A shard takes its part of the workers. When it has fewer items left than workers, it returns the spare ones, and the
    next shard may start with them. All shards together never have more than `workers`.

    Args:
        workers: Number of calls in flight in the whole run.

    Example:
        >>> free = FreeWorkers(20)
        >>> free.take(slots=1, busy=0), free.take(slots=1, busy=0)
        (20, 0)
        >>> free.give(19)
        >>> free.take(slots=1, busy=0)
        19
    """

    def __init__(self, workers: int) -> None:
        self._workers = self._free = workers

    def take(self, *, slots: int, busy: int) -> int:
        """Take the part of a shard; return the number of its workers, or 0 if fewer than half of a part are free.

        Args:
            slots: Number of shards among which the workers are divided.
            busy: Number of these shards that run already.
        """
        if busy >= slots:
            return 0
        part = -(-self._free // (slots - busy))
        if part < max(1, self._workers // slots / 2):
            return 0
        self._free -= part
        return part

    def take_up_to(self, items: int) -> int:
        """Take a worker for each of `items`, or as many as are free, for a shard that has few items left."""
        taken = min(items, self._free)
        self._free -= taken
        return taken

    def give(self, workers: int) -> None:
        """Return workers."""
        self._free += workers
