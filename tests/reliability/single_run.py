"""One run of a job in a process of its own, without Prefect: `python -m tests.reliability.single_run job.json`."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from pathlib import Path

from batch_llm.jobs import BatchJob, hold_lease, job_store, merge, plan, run_shard


def run_job(job: BatchJob) -> None:
    """Plan, run and merge the job, as the flow's tasks do."""
    run = str(uuid.uuid4())
    with hold_lease(job_store(job), run, waits_for=print, lost=print) as lease:
        made = plan(job, run, lease=lease)
        for shard in made.shards:
            asyncio.run(run_shard(job, made.folder, shard))
        merge(job, made)


if __name__ == "__main__":
    run_job(BatchJob.parse(json.loads(Path(sys.argv[1]).read_text())))
