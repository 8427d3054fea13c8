"""Loads the flow as Prefect does: from its file."""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

from batch_llm.jobs import project_folder


@cache
def load_flow() -> Any:
    """Return the flow of flows/batch.py."""
    spec = importlib.util.spec_from_file_location("batch", project_folder() / "flows" / "batch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.batch
