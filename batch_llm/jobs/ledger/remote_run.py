"""Exchange of files between the machines of a run, through the run's folder in the ledger.

    file                    written by                               read by
    shards/00003.jsonl      the planning machine, once               the runner of the shard
    progress/00003.json     the runner, every few seconds            the planning machine
    stop                    any machine                              all machines, every few seconds

All other code only uses the local run folder of its machine. If this is the folder in the ledger, there is nothing to
exchange.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

from batch_llm.errors import JobError
from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.run_types import ShardRef
from batch_llm.jobs.storage.json_files import read_object, write_whole
from batch_llm.jobs.storage.scratch import temporary_folder

from .run_folder import RunFolder, job_store


@contextmanager
def local_run_folder(job: BatchJob, folder: str) -> Generator[str]:
    """Provide a run's folder on this machine: the given one, or a temporary one if the run was planned elsewhere.

    Args:
        job: The job.
        folder: Path of the run's folder on the planning machine.

    Raises:
        JobError: The run is neither on this machine nor in the ledger.
    """
    if (Path(folder) / "plan.json").exists():
        yield folder
        return
    with remote_run_folder(job, Path(folder).name) as run:
        yield str(run.path)


@contextmanager
def remote_run_folder(job: BatchJob, run_id: str) -> Generator[RunFolder]:
    """Provide a temporary folder for a run that was planned on another machine.

    Raises:
        JobError: The ledger does not have the run.
    """
    runs = job_store(job)
    store = runs.folder(run_id)
    planned = store.read("plan.json")
    if planned is None:
        raise JobError(
            f"{store.address} has no plan: use a ledger that all machines can reach, such as s3://bucket/ledger"
        )
    with temporary_folder() as place:
        run = RunFolder(place / run_id, store, runs)
        write_whole(run.plan, planned.decode())
        exchange_stop(run)
        try:
            yield run
        finally:
            with suppress(OSError):
                exchange_stop(run)


def send_shards(run: RunFolder) -> None:
    """Copy the shards of a plan to the ledger, for the runners on other machines.

    Raises:
        JobError: The ledger cannot be written.
    """
    if run.is_remote:
        try:
            run.store.put_all(sorted(run.shards.iterdir()), "shards")
        except OSError as error:
            raise JobError(f"ledger {run.store.address} cannot be written: {error.strerror or error}") from error


def shard_file(run: RunFolder, shard: ShardRef) -> Path:
    """Return the local file of a shard; fetch it from the ledger if necessary.

    Raises:
        OSError: The ledger does not have the file, or cannot be read.
    """
    path = run.shards / Path(shard.path).name
    if not path.exists():
        run.store.fetch(f"shards/{path.name}", path)
    return path


def exchange_stop(run: RunFolder) -> None:
    """Send this machine's stop request to the ledger, or receive the request of another machine.

    Raises:
        OSError: The ledger cannot be reached.
    """
    if not run.is_remote:
        return
    request = read_object(run.stop)
    if not request:
        if received := run.store.read("stop"):
            write_whole(run.stop, received.decode())
    elif not request.get("here"):
        run.store.create("stop", json.dumps(request).encode())


def publish_progress(run: RunFolder, shard: ShardRef) -> None:
    """Send the progress of a shard to the ledger, for the planning machine.

    Raises:
        OSError: The ledger cannot be written.
    """
    path = run.progress / f"{shard.index:05d}.json"
    if run.is_remote and path.exists():
        run.store.write(f"progress/{path.name}", path.read_bytes())


def fetch_progress(run: RunFolder, shards: Iterable[ShardRef]) -> None:
    """Fetch the progress of shards that run on other machines.

    Raises:
        OSError: The ledger cannot be read.
    """
    for shard in shards if run.is_remote else ():
        path = run.progress / f"{shard.index:05d}.json"
        if received := run.store.read(f"progress/{path.name}"):
            write_whole(path, received.decode())
