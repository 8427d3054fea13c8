"""The folder of one run, and the paths of its files."""

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
from batch_llm.jobs.storage.json_files import write_whole
from batch_llm.jobs.storage.paths import resolve
from batch_llm.jobs.storage.permissions import restrict_ledger, share_ledger
from batch_llm.jobs.storage.store import Store

StopKind: TypeAlias = Literal["asked", "fatal", "budget", "canary"]

_WORKING_FOLDER = ".batch-llm/working"
"""Local folder of runs with a remote ledger: nested so deeply that a local ledger does not list these runs."""

_WARNING = "warning"
_RUNNER_FOLDERS = ("claims", "carriers", "budget")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Files of a run on this machine and in the ledger.

    Attributes:
        path: The run's folder on this machine.
        store: The run's folder in the ledger, which keeps the records in `ledger/`, plan.json, summary.json and
            outcomes.parquet. It is the same folder as `path` if the ledger is on this machine.
        runs: The ledger folder of the job's name, which contains all its runs.
    """

    path: Path
    store: Store
    runs: Store

    @classmethod
    def at(cls, path: Path, runs: Store) -> RunFolder:
        """Return the folder of a run whose id is the name of its local folder.

        Args:
            path: The run's folder on this machine.
            runs: The ledger folder of the job's name.
        """
        return cls(path, runs.folder(path.name), runs)

    @property
    def is_remote(self) -> bool:
        """Whether the ledger is elsewhere, so that other machines do not see the files in `path`."""
        return self.store.local != self.path

    @property
    def rows(self) -> Path:
        """Rows of the source, numbered in `_position`."""
        return self.path / "rows.parquet"

    @property
    def items(self) -> Path:
        """One row per item: position, id, key, error of a row that cannot be sent, and location of its prompt."""
        return self.path / "items.parquet"

    @property
    def prompts(self) -> Path:
        """Prompts of the items, as JSON strings."""
        return self.path / "prompts.jsonl"

    @property
    def reused(self) -> Path:
        """Reused answers of earlier runs, by position."""
        return self.path / "reused.parquet"

    @property
    def collected(self) -> Path:
        """Temporary folder for records that are collected for `reused` or `outcomes`."""
        return self.path / "gathered"

    @property
    def called(self) -> Path:
        """Positions of the items in shards."""
        return self.path / "called.parquet"

    @property
    def outcomes(self) -> Path:
        """Outcome of each item, one row per item, unordered; written by the merge."""
        return self.path / "outcomes.parquet"

    @property
    def server_facts(self) -> Path:
        """Facts about the server that the shards have detected."""
        return self.path / "server-facts.json"

    @property
    def plan(self) -> Path:
        """The plan, with its counts."""
        return self.path / "plan.json"

    @property
    def shards(self) -> Path:
        """Folder with one file per shard: the items to call."""
        return self.path / "shards"

    @property
    def progress(self) -> Path:
        """Folder with the progress of each shard, one file per shard."""
        return self.path / "progress"

    @property
    def stop(self) -> Path:
        """Stop request; while this file exists, the run's shards start no further calls."""
        return self.path / "stop"

    def warn(self, text: str) -> None:
        """Record a warning of a shard for the run's totals; a later one replaces it."""
        with suppress(OSError):  # it was logged
            self.store.write(_WARNING, text.encode())

    def warnings(self) -> list[str]:
        """Return the recorded warnings of the shards."""
        with suppress(OSError):
            if recorded := self.store.read(_WARNING):
                return [recorded.decode(errors="replace")]
        return []

    @property
    def summary(self) -> Path:
        """Totals of the run, written at its end."""
        return self.path / "summary.json"

    def copy_to_ledger(self, path: Path) -> None:
        """Copy a file of the local folder to the ledger.

        Raises:
            JobError: The ledger cannot be written.
        """
        try:
            self.store.put(path, path.name)
        except OSError as error:
            raise JobError(f"ledger {self.store.address} cannot be written: {error.strerror or error}") from error

    def clear(self) -> None:
        """Remove the files that only a running run needs; their content is also in the source and in the ledger."""
        intermediate = self.path.glob(f"{self.items.stem}.*")
        copies_of_the_source = self.path.glob("utf-8-*/")
        for path in (
            self.rows,
            self.items,
            self.prompts,
            self.reused,
            self.called,
            self.server_facts,
            *intermediate,
        ):
            path.unlink(missing_ok=True)
        for folder in (self.collected, self.shards, *copies_of_the_source):
            shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # remaining files do no harm
            sent = (self.shards.name, self.progress.name) if self.is_remote else ()
            for name in (*_RUNNER_FOLDERS, *sent):
                self.store.remove_folder(name)


def job_store(job: BatchJob) -> Store:
    """Return the ledger folder of the job's name, which contains all its runs."""
    return Store(job.ledger).folder(job.name)


def prepare_ledger(job: BatchJob, runs: Store) -> None:
    """Create the folders of the job's name on this machine, with the access of `ledger_access`.

    Args:
        job: The job.
        runs: The ledger folder of the job's name.

    Raises:
        JobError: They cannot be created.
    """
    folder = working_folder(runs, job.name)
    try:
        if job.ledger_access == "group":
            share_ledger(folder.parent, folder)
        else:
            restrict_ledger(folder)
    except OSError as error:
        raise JobError(f"ledger {folder} cannot be written: {error.strerror or error}") from error


def with_absolute_paths(job: BatchJob) -> BatchJob:
    """Return the job with absolute paths for all that a shard reads, for processes with another working directory."""
    local, context = Store(job.ledger).local, job.cached_context
    if context and context.startswith("@"):
        context = f"@{resolve(context[1:])}"
    return job.model_copy(update={"ledger": str(local) if local else job.ledger, "cached_context": context})


def run_folder(job: BatchJob, run_id: str) -> RunFolder:
    """Return the folder of one run: `<ledger>/<name>/<run_id>`."""
    return folder_in(job_store(job), job.name, run_id)


def folder_in(store: Store, name: str, run_id: str) -> RunFolder:
    """Return the folder of one run.

    Args:
        store: The ledger folder of the job's name.
        name: Name of the job.
        run_id: Id of the run.
    """
    return RunFolder.at(working_folder(store, name) / run_id, store)


def working_folder(store: Store, name: str) -> Path:
    """Return the local folder for the runs of a job's name; each ledger has its own."""
    ledger = hashlib.sha256(store.address.encode()).hexdigest()[:8]
    return store.local or resolve(_WORKING_FOLDER) / f"{name}-{ledger}"


def open_folder(job: BatchJob, folder: str) -> RunFolder:
    """Return the run's folder for the path in its plan."""
    return RunFolder.at(Path(folder), job_store(job))


def request_stop(folder: str | Path, reason: str, *, kind: StopKind = "asked", here: bool = False) -> None:
    """Request every shard of a run to finish its calls in flight and to start no further calls.

    Runners on other machines receive the request through the ledger within seconds.

    Args:
        folder: The run's folder on this machine.
        reason: Who requests the stop; for the other kinds, a sentence on what must be fixed first.
        kind: Cause of the stop: a request ("asked"), a fatal error, the budget, or the canary.
        here: Whether to stop only the shards on this machine; other machines may continue with these shards.
    """
    write_whole(Path(folder) / "stop", json.dumps({"reason": reason, "kind": kind, "here": here}))


def publish_waiting(folder: str | Path, other: str | None) -> None:
    """Publish for `read_progress` which other run a run waits for.

    Args:
        folder: The run's folder on this machine.
        other: Description of the other run; None when the run no longer waits.
    """
    path = Path(folder) / "waiting"
    if other is None:
        path.unlink(missing_ok=True)
    else:
        write_whole(path, json.dumps({"for": other}))
