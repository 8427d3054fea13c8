"""The pull step: where a worker finds the flow, and where the paths of a job start from."""

from __future__ import annotations

import os

from batch_llm.jobs import project_folder


def pull() -> dict[str, str]:
    """Return the folder with `flows/`, for a worker that was started anywhere.

    Prefect makes it the working directory of the run. Relative paths of a job start from the folder where the worker
    was started instead, which its processes know as `PWD`.
    """
    os.environ.setdefault("BATCH_LLM_HOME", os.environ.get("PWD") or os.getcwd())  # noqa: PTH109  as Prefect sees it
    return {"directory": str(project_folder())}
