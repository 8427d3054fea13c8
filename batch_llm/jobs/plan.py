"""Split: from a source to shard files of what is still to be answered."""

from __future__ import annotations

from dataclasses import dataclass

from .job import BatchJob


@dataclass(frozen=True, slots=True)
class ShardRef:
    """A part of a run, small enough to travel to another process.

    Attributes:
        index: Its number, from 0.
        first: Position in the source of its first item, from 1.
        last: Position in the source of its last item; items between that have an answer are left out.
        items: Items in it.
        path: The shard file: one line an item with its id, key and prompt.
    """

    index: int
    first: int
    last: int
    items: int
    path: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do.

    Attributes:
        folder: The run's folder.
        total: Items of the source, broken rows included.
        broken: Rows that cannot be sent; they fail by themselves and cost nothing.
        reused: Items that an earlier run has answered.
        shards: What is to be answered.
        notes: Sentences for the reader: renamed columns, broken rows.
    """

    folder: str
    total: int
    broken: int
    reused: int
    shards: tuple[ShardRef, ...]
    notes: tuple[str, ...]


def check(job: BatchJob, *, strategy: str = "") -> None:
    """See that a job can run, before anything starts and before any call is paid for.

    Args:
        job: The job.
        strategy: Name of a strategy that the caller brings; the job's model is then not looked at.

    Raises:
        JobError: One line: what is wrong, where, what to do.
    """
    raise NotImplementedError


def plan(job: BatchJob, run_id: str, *, strategy: str = "") -> Plan:
    """Read the source once, in bounded memory, and write what is to be answered into shard files.

    Items that any run of this job's name has answered, with the same id and key, are left out.

    Args:
        job: The job.
        run_id: Names the run's folder; planning the same run again starts it over but keeps what its ledger has.
        strategy: Name of a strategy that the caller brings; it becomes part of every key.

    Raises:
        JobError: One line: what is wrong, where, what to do.
    """
    raise NotImplementedError
