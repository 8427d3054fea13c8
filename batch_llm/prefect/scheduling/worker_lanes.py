"""Division of `config.max_workers` among the shards that run at once."""

from __future__ import annotations


class WorkerLanes:
    """Workers of a run in lanes, one for each shard that runs at once.

    A shard takes the workers of a lane. When it has fewer items left than workers, it returns the spare ones, and the
    next shard starts with them if they are at least half of the lane. All shards together never have more than
    `workers`.

    Args:
        workers: Number of calls in flight in the whole run.
        lanes: Number of shards that run at once.

    Example:
        >>> lanes = WorkerLanes(20, 1)
        >>> lanes.take(), lanes.take()
        ((0, 20), None)
        >>> lanes.give(0, 19)
        >>> lanes.take()
        (0, 19)
    """

    def __init__(self, workers: int, lanes: int) -> None:
        each, more = divmod(workers, lanes)
        self._sizes = [each + (lane < more) for lane in range(lanes)]
        self._free = list(self._sizes)

    def take(self, items: int | None = None) -> tuple[int, int] | None:
        """Take workers for a shard; return the lane and their number, or None if too few are free.

        Args:
            items: Number of items for a shard that has few left: it takes one worker for each of them at most, and
                starts as soon as one is free. None for a shard that takes all free workers of a lane.
        """
        lane = max(range(len(self._free)), key=self._free.__getitem__)
        free = self._free[lane]
        if free < (1 if items else (self._sizes[lane] + 1) // 2):
            return None
        taken = min(items or free, free)
        self._free[lane] -= taken
        return lane, taken

    def give(self, lane: int, workers: int) -> None:
        """Return workers to their lane."""
        self._free[lane] += workers
