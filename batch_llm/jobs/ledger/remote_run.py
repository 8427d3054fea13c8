"""A run that is carried on machines that have not planned it: what goes to and fro, through its folder in the ledger.

    what                    from whom                        to whom
    shards/00003.jsonl      who planned it, once             who carries the shard
    progress/00003.json     who carries it, in some seconds  who planned it, and shows it
    stop                    anybody                          everybody, in some seconds

On each machine the run's own folder is what everything looks at; where that is the one in the ledger, there is nothing
to be done here.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

from batch_llm.errors import JobError
from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.run_types import ShardRef
from batch_llm.jobs.storage.json_files import read_object, write_whole

from .run_folder import RunFolder, job_store, open_folder


@contextmanager
def local_run_folder(job: BatchJob, folder: str) -> Generator[str]:
    """Have a run's folder on this machine: the given one where the run was planned, else one for the time being.

    Raises:
        JobError: It is neither here nor in the ledger.
    """
    if (Path(folder) / "plan.json").exists():
        yield folder
        return
    with remote_run_folder(job, Path(folder).name) as run:
        yield str(run.path)


@contextmanager
def remote_run_folder(job: BatchJob, run_id: str) -> Generator[RunFolder]:
    """Have a folder of this process's own for a run that was planned elsewhere.

    Raises:
        JobError: The ledger does not have the run.
    """
    kept = job_store(job).folder(run_id)
    planned = kept.read("plan.json")
    if planned is None:
        raise JobError(f"{kept.address} has no plan: put the ledger where all machines reach it, as s3://bucket/ledger")
    with tempfile.TemporaryDirectory(prefix="batch-llm-") as place:
        run = RunFolder(Path(place) / run_id, kept)
        write_whole(run.plan, planned.decode())
        exchange_stop(run)
        try:
            yield run
        finally:
            with suppress(OSError):
                exchange_stop(run)


def send_shards(job: BatchJob, folder: str) -> None:
    """Put the shards of a plan where other machines find them.

    Raises:
        JobError: The ledger cannot be written.
    """
    run = open_folder(job, folder)
    if run.is_remote:
        try:
            run.store.put_all(sorted(run.shards.iterdir()), "shards")
        except OSError as error:
            raise JobError(f"ledger {run.store.address} cannot be written: {error.strerror or error}") from error


def shard_file(run: RunFolder, shard: ShardRef) -> Path:
    """Return the file of a shard on this machine; fetch it if it is not there.

    Raises:
        OSError: The ledger does not have it, either.
    """
    path = run.shards / Path(shard.path).name
    if not path.exists():
        run.store.fetch(f"shards/{path.name}", path)
    return path


def exchange_stop(run: RunFolder) -> None:
    """Tell the other machines of a request to stop, or hear of one.

    Raises:
        OSError: The ledger cannot be reached.
    """
    if not run.is_remote:
        return
    asked = read_object(run.stop)
    if not asked:
        if told := run.store.read("stop"):
            write_whole(run.stop, told.decode())
    elif not asked.get("here"):
        run.store.create("stop", json.dumps(asked).encode())


def publish_progress(run: RunFolder, shard: ShardRef) -> None:
    """Let the planner's machine know how far a shard is.

    Raises:
        OSError: The ledger cannot be written.
    """
    path = run.progress / f"{shard.index:05d}.json"
    if run.is_remote and path.exists():
        run.store.write(f"progress/{path.name}", path.read_bytes())


def fetch_progress(run: RunFolder, shards: Iterable[ShardRef]) -> None:
    """Learn how far shards are that are carried elsewhere.

    Raises:
        OSError: The ledger cannot be read.
    """
    for shard in shards if run.is_remote else ():
        path = run.progress / f"{shard.index:05d}.json"
        if told := run.store.read(f"progress/{path.name}"):
            write_whole(path, told.decode())
