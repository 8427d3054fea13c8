"""Shards in the flow's process and in further processes, which take shards when they have started.

    runner        further processes start
    processes     with the run, while the canary is called
    auto          when the flow's process uses most of a core, and the rest of the run takes longer than a start

A process that starts imports for some seconds. No shard waits for that: until a process is ready, the flow's process
takes the shards and has all workers. A run that waits for its provider needs no second process, and without one it need
not share a rate limit with itself.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.task_runners import ProcessPoolTaskRunner

from batch_llm.jobs import LOCAL, BatchJob, Progress
from batch_llm.jobs.models.factory import check_model

from .submitter import ShardSubmitter, ShardWorkload, submitting

LOAD_SECONDS = 2.0
"""Seconds over which the load of the flow's process is measured."""

BUSY_SHARE = 0.6
"""Share of its part of a core from which the flow's process is too busy to handle all calls."""

START_SECONDS = 10.0
"""Assumed duration of the start of a process on a busy machine; a run that ends earlier needs none."""


class StartingProcesses(ProcessPoolTaskRunner):
    """Process pool that starts all its processes at once and reports how many are ready.

    Prefect's pool starts a process for each task, and the process takes the task before it has imported what the task
    needs.

    Args:
        processes: Number of processes.
        job: The job whose model is imported by each process; None for a strategy of the caller.
    """

    def __init__(self, processes: int, job: BatchJob | None) -> None:
        self._ready: Synchronized[int] = multiprocessing.get_context("spawn").Value("i", 0)
        self._submitted = False
        super().__init__(max_workers=processes, initializer=_import_all, initargs=(self._ready, job))

    def __enter__(self) -> StartingProcesses:
        super().__enter__()
        assert self._executor is not None
        for _ in range(self._max_workers):
            self._executor.submit(int)  # the pool starts a process for each call that it gets
        return self

    def __exit__(self, *error: object) -> None:
        """Wait for the processes; end those that are still starting, if none has run a shard."""
        if not self._submitted and self._executor is not None and self.ready < self._max_workers:
            for process in (self._executor._processes or {}).values():  # `terminate_workers` is new in Python 3.14
                process.terminate()
        super().__exit__(*error)

    @property
    def ready(self) -> int:
        """Number of processes that have imported everything."""
        return self._ready.value

    def submit(self, *arguments: Any, **more: Any) -> Any:
        """Submit a task, as `ProcessPoolTaskRunner` does."""
        self._submitted = True
        return super().submit(*arguments, **more)


def _import_all(ready: Synchronized[int], job: BatchJob | None) -> None:
    """Import what a shard needs, in a process of the pool."""
    from batch_llm.prefect import tasks

    assert tasks.run_shard
    if job is not None:
        with suppress(Exception):  # the shard reports it
            check_model(job)
    with ready.get_lock():
        ready.value += 1


class ProcessSlots:
    """Slots of a run: one in the flow's process, and one in each further process that is ready.

    Args:
        load: The workload.
        submit_here: Function that submits a shard to a thread of the flow's process.
        processes: Number of processes, including the flow's.
        starts: Function that starts the further processes.
    """

    def __init__(
        self,
        load: ShardWorkload,
        submit_here: Callable[..., PrefectFuture[Any]],
        processes: int,
        starts: Callable[[StartingProcesses], StartingProcesses],
    ) -> None:
        self._load, self._submit_here, self._processes, self._starts = load, submit_here, processes, starts
        self._pool: StartingProcesses | None = None
        self._here: set[PrefectFuture[Any]] = set()
        self._there: set[PrefectFuture[Any]] = set()
        self._cpu = Load()

    def start(self) -> None:
        """Start the further processes."""
        if self._pool is None and self._processes > 1:
            job = self._load.job if self._load.calls_model and self._load.job.model != LOCAL else None
            self._pool = self._starts(StartingProcesses(self._processes - 1, job))

    def slots(self) -> int:
        """Return the number of processes that are ready."""
        return 1 + (self._pool.ready if self._pool else 0)

    def submit(self, **arguments: Any) -> PrefectFuture[Any]:
        """Submit a shard to an idle process if this one has a shard; retries run here, because they are small."""
        is_idle_there = self._pool is not None and len(self._there) < self._pool.ready
        if self._pool is not None and is_idle_there and self._here and arguments["attempt"] == 1:
            where, future = self._there, submitting(self._pool, self._load.task)(**arguments)
        else:
            where, future = self._here, self._submit_here(**arguments)
        where.add(future)
        future.add_done_callback(where.discard)
        return future

    def overlaps(self, future: PrefectFuture[Any]) -> bool:
        """Return whether a shard runs in the flow's process."""
        return future not in self._there

    def start_if_busy(self, progress: Progress) -> None:
        """Start the further processes if this one is too busy, and the rest of the run takes longer than a start."""
        called = progress.done - progress.reused
        if self._pool is None and self._cpu.is_high(counts=called > 0):  # imports before the first answer do not count
            rate = called / max(1.0, progress.seconds)
            if progress.total - progress.done > START_SECONDS * rate:
                get_run_logger().info("One process is busy: starting %d more for the next shards", self._processes - 1)
                self.start()


class Load:
    """CPU use of this process, in windows of `LOAD_SECONDS`."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
        part: Callable[[], float] | None = None,
    ) -> None:
        self._clock, self._cpu, self._part = clock, cpu, part or part_of_a_core
        self._busy_windows = 0
        self._began, self._used = clock(), cpu()

    def is_high(self, *, counts: bool) -> bool:
        """Return whether this process used more than `BUSY_SHARE` of its part of a core in the latest two windows.

        Args:
            counts: Whether the time counts; if not, such as before the first answer, measuring starts again.
        """
        now = self._clock()
        if not counts or now - self._began >= LOAD_SECONDS:
            used = self._cpu()
            is_busy = counts and used - self._used > BUSY_SHARE * self._part() * (now - self._began)
            self._busy_windows = self._busy_windows + 1 if is_busy else 0
            self._began, self._used = now, used
        return self._busy_windows >= 2


def part_of_a_core() -> float:
    """Return the part of a core that a process gets, because others use the machine, too; 1 if cores are free."""
    return min(1.0, (os.cpu_count() or 1) / max(os.getloadavg()[0], 0.01))


@contextmanager
def in_processes(
    load: ShardWorkload, submit_here: Callable[..., PrefectFuture[Any]], processes: int, *, at_once: bool
) -> Generator[ShardSubmitter]:
    """Run shards in the flow's process and in further ones.

    Args:
        load: The workload.
        submit_here: Function that submits a shard to a thread of the flow's process.
        processes: Number of processes, including the flow's.
        at_once: Whether the further processes start now, or when this one is busy.
    """
    with ExitStack() as stack:
        shards = ProcessSlots(load, submit_here, processes, stack.enter_context)
        if at_once:
            shards.start()
        watch: Callable[[Progress], None] = shards.start_if_busy if processes > 1 else lambda _: None
        yield ShardSubmitter(shards.submit, shards.slots, overlaps=shards.overlaps, watch=watch)
