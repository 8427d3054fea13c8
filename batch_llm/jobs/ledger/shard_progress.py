"""Progress of one shard, in a small file that its process writes."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from batch_llm.jobs.storage.json_files import read_object, to_json, write_whole


@dataclass
class ShardProgress:
    """Progress of one shard.

    Attributes:
        items: Items of the shard.
        succeeded: Items with an answer.
        failed: Items that failed.
        input_tokens: Input tokens used so far.
        output_tokens: Output tokens used so far.
        cost_usd: Cost so far; None if the price of the model is not known.
        categories: Number of failures by category.
        paused_until: End of the current cooldown, in seconds since the epoch.
        limit: Calls per second that may start in all runs that share the limit; None if no call had to wait for it.
        is_limited: Whether `limit` was configured, reported by the provider or met.
        rate_limits: Number of rate limits (429) that the shard has met.
        paused_for: Total seconds of the shard's cooldowns.
        finished: Whether the shard has finished.
        left: Items that the current attempt of the shard has to finish, or that the next one will call again.
        left_after: Most frequent category of the errors after which the next attempt calls items again.
        retries_at: Start of the next attempt, in seconds since the epoch; 0 if the shard does not wait for one.
        updated_at: When this progress was written, in seconds since the epoch.
    """

    items: int = 0
    succeeded: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    categories: dict[str, int] = field(default_factory=dict[str, int])
    paused_until: float = 0.0
    limit: float | None = None
    is_limited: bool = False
    rate_limits: int = 0
    paused_for: float = 0.0
    finished: bool = False
    left: int = 0
    left_after: str = ""
    retries_at: float = 0.0
    updated_at: float = 0.0

    @property
    def called_again(self) -> int:
        """Number of failed items that the current or the next attempt calls again."""
        return min(self.left, max(0, self.succeeded + self.failed + self.left - self.items))

    def resume_from(self, folder: Path, shard: int) -> None:
        """Continue the counts of an earlier attempt of the shard that are not in its records."""
        before = read_object(folder / "progress" / file_name(shard))
        self.rate_limits = int(before.get("rate_limits", 0))
        self.paused_for = float(before.get("paused_for", 0.0))

    def write(self, folder: Path, shard: int) -> None:
        """Write the progress to the run's folder for `read_progress`; errors are ignored."""
        self.updated_at = time.time()
        with suppress(OSError):
            write_whole(folder / "progress" / file_name(shard), to_json(asdict(self)))


def record_retry(folder: str | Path, shard: int, left: int, category: str, at: float) -> None:
    """Record in the progress of a shard that it waits for its next attempt.

    Args:
        folder: The run's folder on this machine.
        shard: Number of the shard, from 0.
        left: Number of items that the attempt will call again.
        category: Category of most of their errors.
        at: Start of the attempt, in seconds since the epoch.
    """
    written = ShardProgress(**read_object(Path(folder) / "progress" / file_name(shard)))
    waits = replace(written, finished=False, left=left, left_after=category, retries_at=at)
    waits.write(Path(folder), shard)


def file_name(shard: int) -> str:
    """Return the name of the file of a shard in the run's folder `progress`."""
    return f"{shard:05d}.json"
