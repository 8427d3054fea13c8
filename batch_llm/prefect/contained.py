"""What a run tells Prefect, none of which may end the run: artifacts, events, questions."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager

from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

REQUEST_SECONDS = 10.0
"""For one request to the API, which Prefect would give a minute, and six tries."""

_warned: set[str] = set()


@contextmanager
def contained() -> Generator[None]:
    """Let what goes wrong here be one warning a run, for the calls go on and the files tell the same."""
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1, PREFECT_API_REQUEST_TIMEOUT: REQUEST_SECONDS}):
            yield
    except Exception as error:
        run_id = str(flow_run.id)
        if run_id not in _warned:
            _warned.add(run_id)
            _warn(error)


def _warn(error: Exception) -> None:
    problem = " ".join(f"{type(error).__name__}: {error}".split())
    text = "Prefect cannot be told how the run goes (%s). The run goes on, and its files will tell the same"
    try:
        get_run_logger().warning(text, problem)
    except MissingContextError:
        logging.getLogger(__name__).warning(text, problem)
