"""One run of the flow in a process of its own.

    python -m tests.benchmarks.flow_run '{"source": "docs.jsonl", "prompt": "{text}", "output": "out.jsonl"}'

prints the run's totals as JSON; `PREFECT_API_URL` says which server hears of it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from prefect import flow

from batch_llm.jobs import BatchJob, Summary
from batch_llm.prefect import run_batch


@flow(name="batch-llm-benchmark")
def flow_run(job: BatchJob) -> Summary:
    """Run the job."""
    return run_batch(job)


def main() -> None:
    """Run it and print the totals."""
    parser = argparse.ArgumentParser(description="Run a job as a flow.")
    parser.add_argument("job", type=json.loads, help="its settings, as JSON")
    print(json.dumps(asdict(flow_run(BatchJob.parse(parser.parse_args().job)))))


if __name__ == "__main__":
    # The processes of a pool find the flow by this module's name, not by "__main__".
    from tests.benchmarks import flow_run as this

    this.main()
