"""What a run tells Prefect, none of which may end the run: artifacts, events, questions."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager

from prefect.client.orchestration import get_client
from prefect.context import SettingsContext, get_settings_context
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

REQUEST_SECONDS = 10.0
"""For one request to the API, which Prefect would give a minute, and six tries."""

AWAY_SECONDS = 300.0
"""For a server that is away at the end of a run; Prefect's engine alone gives up after one minute."""

_LOOK_SECONDS = 1.0

_warned: set[str] = set()


@contextmanager
def contained(*, retries: int = 0) -> Generator[None]:
    """Let what goes wrong here be one warning a run, for the calls go on and the files tell the same.

    Args:
        retries: How often a request is tried again, for what nobody would tell later.
    """
    try:
        with impatient(retries=retries):
            yield
    except Exception as error:
        run_id = str(flow_run.id)
        if run_id not in _warned:
            _warned.add(run_id)
            _tell(error)


def await_api() -> None:
    """Wait until the Prefect API answers, or not much longer: the run's last state is to be recorded there."""
    if _answers():
        return
    warn("The batch is done and its files are written. Prefect is away: waiting %.0f s for it", AWAY_SECONDS)
    end = time.monotonic() + AWAY_SECONDS
    while not _answers():
        if time.monotonic() > end:
            warn("Prefect stays away and cannot record how this run ended. A new run finds every answer in the ledger")
            return
        time.sleep(_LOOK_SECONDS)


def _answers() -> bool:
    with impatient(), get_client(sync_client=True) as client:
        if client.api_healthcheck() is not None:
            return False
        health = client.request("GET", "/health")
        return "html" not in health.headers.get("content-type", "")  # a proxy's login page is a success, too


def impatient(seconds: float = REQUEST_SECONDS, *, retries: int = 0) -> AbstractContextManager[object]:
    """Give requests to the API less time, and fewer tries, than Prefect does.

    Prefect's own `temporary_settings` reads the environment and its files anew each time, which takes 20 ms of CPU.
    """
    known = get_settings_context()
    api = known.settings.api.model_copy(update={"request_timeout": seconds})
    client = known.settings.client.model_copy(update={"max_retries": retries})
    settings = known.settings.model_copy(update={"api": api, "client": client})
    return SettingsContext(profile=known.profile, settings=settings)


def _tell(error: Exception) -> None:
    problem = " ".join(f"{type(error).__name__}: {error}".split())
    text = "Prefect cannot be told how the run goes (%s). The run goes on, and its files will tell the same"
    warn(text, problem)


def warn(text: str, *values: object) -> None:
    """Log a warning of the run's, which its page shows; outside of a run, an ordinary one."""
    try:
        get_run_logger().warning(text, *values)
    except MissingContextError:
        logging.getLogger(__name__).warning(text, *values)
