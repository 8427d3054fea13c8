"""The folder of one run: which file is where."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from batch_llm.errors import JobError
from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.storage.access import restrict_ledger, share_ledger
from batch_llm.jobs.storage.json_files import write_whole
from batch_llm.jobs.storage.paths import resolve
from batch_llm.jobs.storage.store import Store

StopKind: TypeAlias = Literal["asked", "fatal", "budget", "canary"]

_WORKING_FOLDER = ".batch-llm/working"
"""Where runs work whose ledger is not on this machine: too deep for one that is to take them for its own."""

_OF_CARRIERS = ("claims", "carriers", "budget")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """What a run leaves on disk.

    Attributes:
        path: Where it works, on this machine.
        kept: What stays of it, in the ledger: the records of `ledger/`, plan.json, summary.json, outcomes.parquet. The
            same folder as `path` where the ledger is on this machine.
    """

    path: Path
    store: Store

    @property
    def is_remote(self) -> bool:
        """Whether it is another folder than what is kept: other machines see nothing of what is in it."""
        return self.store.local != self.path

    @property
    def rows(self) -> Path:
        """The source's rows as they were read, numbered in `_position`."""
        return self.path / "rows.parquet"

    @property
    def items(self) -> Path:
        """One row an item: position, id, key, the error of a row that cannot be sent, and where its prompt is."""
        return self.path / "items.parquet"

    @property
    def prompts(self) -> Path:
        """The items' prompts, as strings of JSON."""
        return self.path / "prompts.jsonl"

    @property
    def reused(self) -> Path:
        """The answers of earlier runs that stand, by position."""
        return self.path / "reused.parquet"

    @property
    def gathered(self) -> Path:
        """Records on their way into `reused` or `outcomes`, where they are many."""
        return self.path / "gathered"

    @property
    def called(self) -> Path:
        """The positions of the items in shards."""
        return self.path / "called.parquet"

    @property
    def outcomes(self) -> Path:
        """What became of each item, one row an item, in no order: written by the merge."""
        return self.path / "outcomes.parquet"

    @property
    def server_facts(self) -> Path:
        """What the shards have learned of the server."""
        return self.path / "server-facts.json"

    @property
    def plan(self) -> Path:
        """The plan's counts."""
        return self.path / "plan.json"

    @property
    def shards(self) -> Path:
        """One file a shard: the items to be answered."""
        return self.path / "shards"

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

    def copy_to_ledger(self, path: Path) -> None:
        """Copy a file of this folder into the ledger.

        Raises:
            JobError: The ledger cannot be written.
        """
        try:
            self.store.put(path, path.name)
        except OSError as error:
            raise JobError(f"ledger {self.store.address} cannot be written: {error.strerror or error}") from error

    def clear(self) -> None:
        """Remove what only a run at work needs; rows, prompts and answers are copies of what stands elsewhere."""
        made_on_the_way = self.path.glob(f"{self.items.stem}.*")
        copies_of_the_source = self.path.glob("utf-8-*/")
        for path in (
            self.rows,
            self.items,
            self.prompts,
            self.reused,
            self.called,
            self.server_facts,
            *made_on_the_way,
        ):
            path.unlink(missing_ok=True)
        for folder in (self.gathered, self.shards, *copies_of_the_source):
            shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # what stays of it misleads nobody
            for name in _OF_CARRIERS if not self.is_remote else (*_OF_CARRIERS, self.shards.name, self.progress.name):
                self.store.remove_folder(name)


def job_store(job: BatchJob) -> Store:
    """Return the folder with all that the runs of this job's name leave."""
    return Store(job.ledger).folder(job.name)


def prepare_ledger(job: BatchJob) -> None:
    """Create the folders of the job's name on this machine, with the access of `ledger_access`.

    Raises:
        JobError: They cannot be created.
    """
    store = job_store(job)
    folder = working_folder(store, job.name)
    try:
        if job.ledger_access == "group":
            share_ledger(folder.parent, folder)
        else:
            restrict_ledger(folder)
    except OSError as error:
        raise JobError(f"ledger {folder} cannot be written: {error.strerror or error}") from error


def with_absolute_paths(job: BatchJob) -> BatchJob:
    """Return the job for processes that may stand in another folder: what a shard reads has an absolute path."""
    local, context = Store(job.ledger).local, job.cached_context
    if context and context.startswith("@"):
        context = f"@{resolve(context[1:])}"
    return job.model_copy(update={"ledger": str(local) if local else job.ledger, "cached_context": context})


def run_folder(job: BatchJob, run_id: str) -> RunFolder:
    """Return the folder of one run: `<ledger>/<name>/<run_id>`."""
    return folder_in(job_store(job), job.name, run_id)


def folder_in(store: Store, name: str, run_id: str) -> RunFolder:
    """Return the folder of a run in that of its job's name."""
    return RunFolder(working_folder(store, name) / run_id, store.folder(run_id))


def working_folder(store: Store, name: str) -> Path:
    """Return where the runs of a job's name work on this machine; no two ledgers have the same place."""
    ledger = hashlib.sha256(store.address.encode()).hexdigest()[:8]
    return store.local or resolve(_WORKING_FOLDER) / f"{name}-{ledger}"


def open_folder(job: BatchJob, folder: str) -> RunFolder:
    """Return a run's folder by the path that its plan names."""
    path = Path(folder)
    return RunFolder(path, job_store(job).folder(path.name))


def request_stop(folder: str | Path, reason: str, *, kind: StopKind = "asked", here: bool = False) -> None:
    """Ask every shard of a run to let the calls in flight end and to start no other.

    Who carries shards on other machines hears of it within seconds, through the ledger.

    Args:
        folder: The run's folder.
        reason: Who asks; or, of any other kind, a sentence on what is to be mended first.
        kind: Whether somebody asks, or the run cannot go on ("fatal"), or its budget is used up, or its canary ends it.
        here: Whether this is for the shards on this machine alone, and others may go on with them.
    """
    write_whole(Path(folder) / "stop", json.dumps({"reason": reason, "kind": kind, "here": here}))


def publish_waiting(folder: str | Path, other: str | None) -> None:
    """Let `read_progress` show for which other run a run waits; None when it does not."""
    path = Path(folder) / "waiting"
    if other is None:
        path.unlink(missing_ok=True)
    else:
        write_whole(path, json.dumps({"for": other}))
