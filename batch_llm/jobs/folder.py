"""The folder of one run: which file is where."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from .files import write_whole
from .job import BatchJob
from .project import resolve


@dataclass(frozen=True, slots=True)
class RunFolder:
    """What a run leaves on disk; every path lies below `path`."""

    path: Path

    @property
    def rows(self) -> Path:
        """The source's rows as they were read, numbered in `_position`."""
        return self.path / "rows.parquet"

    @property
    def items(self) -> Path:
        """One row an item: position, id, key, prompt, and the error of a row that cannot be sent."""
        return self.path / "items.parquet"

    @property
    def reused(self) -> Path:
        """The answers of earlier runs that stand, by position."""
        return self.path / "reused.parquet"

    @property
    def outcomes(self) -> Path:
        """What became of each item, one row an item, in no order: written by the merge."""
        return self.path / "outcomes.parquet"

    @property
    def plan(self) -> Path:
        """The plan's counts."""
        return self.path / "plan.json"

    @property
    def shards(self) -> Path:
        """One file a shard: the items to be answered."""
        return self.path / "shards"

    @property
    def ledger(self) -> Path:
        """What is done, one file a writer."""
        return self.path / "ledger"

    @property
    def progress(self) -> Path:
        """How far each shard is, one file a shard."""
        return self.path / "progress"

    @property
    def stop(self) -> Path:
        """While this file exists, shards of the run start no further call."""
        return self.path / "stop"

    @property
    def summary(self) -> Path:
        """The run's totals, written at its end."""
        return self.path / "summary.json"


def job_folder(job: BatchJob) -> Path:
    """Return the folder with all runs of this job's name."""
    return resolve(job.ledger) / job.name


def run_folder(job: BatchJob, run_id: str) -> RunFolder:
    """Return the folder of one run: `<ledger>/<name>/<run_id>`."""
    return RunFolder(job_folder(job) / run_id)


def ask_to_stop(folder: str | Path, reason: str) -> None:
    """Ask every shard of a run to let the calls in flight end and to start no other."""
    write_whole(RunFolder(Path(folder)).stop, json.dumps({"reason": reason}))
