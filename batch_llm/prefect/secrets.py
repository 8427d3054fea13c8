"""API keys from Secret blocks, for processes whose environment lacks them."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from prefect.blocks.system import Secret

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob
from batch_llm.jobs.models.factory import check_model
from batch_llm.jobs.secrets import KeyMissing, secret_name


def provide_key(job: BatchJob) -> bool:
    """Load a missing API key of the job's model from a Secret block into this process's environment.

    `openai-api-key` is the block for `OPENAI_API_KEY`. If the variable is set, no request is made. All clients find the
    key in the environment, and it is redacted in logs and files.

    Returns:
        Whether a key was loaded.
    """
    return any(_load(variable) for variable in _missing(job))


def provide_password(job: BatchJob) -> None:
    """Load a missing PostgreSQL password from the Secret block `pgpassword` into this process's environment.

    If `PGPASSWORD` is set, no request is made.
    """
    if not os.environ.get("PGPASSWORD") and any(place.startswith("postgres") for place in (job.source, job.output)):
        _load("PGPASSWORD")


def _missing(job: BatchJob) -> tuple[str, ...]:
    if job.model.startswith("openai") and not os.environ.get("OPENAI_API_KEY"):
        return ("OPENAI_API_KEY",)  # with OPENAI_BASE_URL, pydantic-ai works without a key
    try:
        check_model(job)
    except KeyMissing as missing:
        return missing.variables
    except JobError:
        pass  # the plan reports it
    return ()


def _load(variable: str) -> bool:
    with suppress(Exception):  # without the block or the server the key is missing, which the plan reports
        load = cast("Callable[..., Secret[Any]]", Secret.load)  # typed for sync and async; Secret[str] is another type
        value: object = load(secret_name(variable), _sync=True).get()
        if isinstance(value, str) and value.strip():
            os.environ[variable] = value.strip()
            return True
    return False
