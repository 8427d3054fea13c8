"""Pull step of the deployments: the folder of the flows, and the base of a job's relative paths."""

from __future__ import annotations

import os

from batch_llm.jobs import project_folder


def pull() -> dict[str, str]:
    """Return the folder that contains `flows/`, which Prefect makes the working directory of the run.

    Relative paths of a job start from the folder where the worker was started instead, which its processes have as
    `PWD`.
    """
    os.environ.setdefault("BATCH_LLM_HOME", os.environ.get("PWD") or os.getcwd())  # noqa: PTH109  as Prefect sees it
    return {"directory": str(project_folder())}
