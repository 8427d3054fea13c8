"""A flow whose strategy answers at once, in a separate process, to measure the cost of a run without calls.

    python -m tests.benchmarks.at_once docs.jsonl FOLDER --workers 100

prints the run's totals as JSON; `PREFECT_API_URL` says which server hears of it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from prefect import flow

from batch_llm import LLMCallStrategy, ProcessorConfig
from batch_llm.jobs import BatchJob, Summary
from batch_llm.prefect import run_batch

ANSWER = "A short answer of some sixty characters, as summaries may be."


class AtOnce(LLMCallStrategy[str]):
    """Answers without waiting for anything."""

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        return ANSWER, {"input_tokens": 100, "output_tokens": 12, "total_tokens": 112}


@flow(name="batch-llm-benchmark")
def at_once(job: BatchJob) -> Summary:
    """Run the job with answers that cost nothing."""
    return run_batch(job, strategy=AtOnce)


def main() -> None:
    """Run it and print the totals."""
    parser = argparse.ArgumentParser(description="Run a batch whose strategy answers at once.")
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path, help="for the output and the ledger")
    parser.add_argument("--workers", type=int, default=100)
    options = parser.parse_args()
    settings = {"source": options.source, "output": options.folder / "out.jsonl", "ledger": options.folder / "ledger"}
    prompt = {"prompt": "Summarize: {text}", "config": ProcessorConfig(max_workers=options.workers)}
    job = BatchJob.parse({name: str(path) for name, path in settings.items()} | prompt)
    print(json.dumps(asdict(at_once(job))))


if __name__ == "__main__":
    # The processes of a pool find the flow and the strategy by this module's name, not by "__main__".
    from tests.benchmarks import at_once as this

    this.main()
