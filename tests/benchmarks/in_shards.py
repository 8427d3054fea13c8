"""A flow in shards that calls no provider; the processes of a pool find it and its strategies by this module's name."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from prefect import flow
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from batch_llm import ModelStrategy, PydanticAIStrategy
from batch_llm.jobs import BatchJob
from batch_llm.prefect import run_batch
from batch_llm.prefect.tasks import StrategyFactory

from .at_once import ANSWER, AtOnce
from .second_run import write_source

__all__ = ["AtOnce", "agents", "in_shards", "lean"]


def lean() -> ModelStrategy[str]:
    """Return what jobs use by default: a model without an agent; this one answers at once."""
    return ModelStrategy(TestModel(custom_output_text=ANSWER))


def agents() -> PydanticAIStrategy[str]:
    """Return an agent whose model answers at once."""
    return PydanticAIStrategy(Agent(TestModel(custom_output_text=ANSWER)))


@flow
def shards(job: BatchJob, strategy: StrategyFactory) -> int:
    """Run the job; return how many items were answered."""
    return run_batch(job, strategy=strategy).succeeded


def in_shards(items: int, workers: int, strategy: StrategyFactory, **settings: Any) -> int:
    """Answer so many items in shards; return how many were answered."""
    with tempfile.TemporaryDirectory(prefix="batch-llm-shards-") as name:
        folder = Path(name)
        write_source(folder, items, changed=False)
        paths = {"source": folder / "docs.jsonl", "output": folder / "out.jsonl", "ledger": folder / "ledger"}
        about = {"prompt": "Summarize: {text}", "config": {"max_workers": workers}, "canary": 0, **settings}
        return shards(BatchJob.parse({name: str(path) for name, path in paths.items()} | about), strategy)
