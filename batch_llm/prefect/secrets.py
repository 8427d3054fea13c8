"""Keys that are kept as Secret blocks, for processes whose environment lacks them."""

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
    """Put the key that a job's model lacks into this process's environment, if a Secret block holds it.

    `openai-api-key` is the block for `OPENAI_API_KEY`. A variable that is set wins, and costs no request. In the
    environment every client finds the key, and what is logged or stored has it replaced.

    Returns:
        Whether a key was found.
    """
    return any(_load(variable) for variable in _missing(job))


def provide_password(job: BatchJob) -> None:
    """Put the password of a PostgreSQL server into this process's environment, if a Secret block `pgpassword` holds it.

    A variable that is set wins, and costs no request.
    """
    if not os.environ.get("PGPASSWORD") and any(place.startswith("postgres") for place in (job.source, job.output)):
        _load("PGPASSWORD")


def _missing(job: BatchJob) -> tuple[str, ...]:
    if job.model.startswith("openai") and not os.environ.get("OPENAI_API_KEY"):
        return ("OPENAI_API_KEY",)  # with OPENAI_BASE_URL, pydantic-ai goes on without a key
    try:
        check_model(job)
    except KeyMissing as missing:
        return missing.variables
    except JobError:
        pass  # the plan tells
    return ()


def _load(variable: str) -> bool:
    with suppress(Exception):  # there is no such block, or no server: then the key is missing, which the plan tells
        load = cast("Callable[..., Secret[Any]]", Secret.load)  # typed for both worlds; Secret[str] is another type
        value: object = load(secret_name(variable), _sync=True).get()
        if isinstance(value, str) and value.strip():
            os.environ[variable] = value.strip()
            return True
    return False
