"""Requests to Prefect that must not fail a run: artifacts, events and state queries."""

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
"""Timeout of one API request; Prefect's default is a minute and six tries."""

AWAY_SECONDS = 300.0
"""Seconds to wait for an unreachable server at the end of a run; Prefect's engine gives up after a minute."""

_LOOK_SECONDS = 1.0

_warned: set[str] = set()


@contextmanager
def best_effort(*, retries: int = 0) -> Generator[None]:
    """Turn errors inside the block into one warning per run: calls continue, and the files have the same data.

    Args:
        retries: Number of retries of a request, for data that is not published again later.
    """
    try:
        with short_timeouts(retries=retries):
            yield
    except Exception as error:
        run_id = str(flow_run.id)
        if run_id not in _warned:
            _warned.add(run_id)
            _warn_unreachable(error)


def await_api() -> None:
    """Wait until the Prefect API answers, up to `AWAY_SECONDS`: the final state of the run must be recorded there."""
    if _answers():
        return
    warn(
        "The batch is done and its files are written. Prefect is unreachable: waiting up to %.0f s for it", AWAY_SECONDS
    )
    end = time.monotonic() + AWAY_SECONDS
    while not _answers():
        if time.monotonic() > end:
            warn("Prefect is still unreachable: the final state is not recorded. A new run reuses all answers")
            return
        time.sleep(_LOOK_SECONDS)


def _answers() -> bool:
    with short_timeouts(), get_client(sync_client=True) as client:
        if client.api_healthcheck() is not None:
            return False
        health = client.request("GET", "/health")
        return "html" not in health.headers.get("content-type", "")  # a proxy's login page has status 200, too


def short_timeouts(seconds: float = REQUEST_SECONDS, *, retries: int = 0) -> AbstractContextManager[object]:
    """Use shorter timeouts and fewer retries for API requests inside the block.

    Prefect's own `temporary_settings` rereads the environment and its files each time, which takes 20 ms of CPU.
    """
    known = get_settings_context()
    api = known.settings.api.model_copy(update={"request_timeout": seconds})
    client = known.settings.client.model_copy(update={"max_retries": retries})
    settings = known.settings.model_copy(update={"api": api, "client": client})
    return SettingsContext(profile=known.profile, settings=settings)


def _warn_unreachable(error: Exception) -> None:
    problem = " ".join(f"{type(error).__name__}: {error}".split())
    text = "Progress cannot be published to Prefect (%s). The run continues, and its files have the same data"
    warn(text, problem)


def warn(text: str, *values: object) -> None:
    """Log a warning with the logger of the current run; outside of a run, with the module's logger."""
    try:
        get_run_logger().warning(text, *values)
    except MissingContextError:
        logging.getLogger(__name__).warning(text, *values)
