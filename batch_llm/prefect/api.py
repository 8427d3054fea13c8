"""The configured Prefect server: its address, a client, and its errors in one line."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from http import HTTPStatus

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.deployments.runner import DeploymentApplyError
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import get_current_settings
from pydantic import ValidationError

from batch_llm.jobs.secrets import redact

from .server_errors import ServerUnavailable, one_line

API_SECONDS = 30.0


def configured_url() -> str | None:
    """Return the address of the API from `PREFECT_API_URL` or Prefect's active profile."""
    return get_current_settings().api.url


@contextmanager
def api() -> Generator[SyncPrefectClient]:
    """Yield a client of the server's API, whose errors are raised as one line.

    Raises:
        ServerUnavailable: The server does not answer, or returns an error.
    """
    try:
        with get_client(httpx_settings={"timeout": API_SECONDS}, sync_client=True) as client:
            yield client
    except PrefectHTTPStatusError as error:
        raise ServerUnavailable(f"the Prefect server returned an error: {_refusal(error.response)}") from error
    except (httpx.HTTPError, DeploymentApplyError) as error:
        raise ServerUnavailable(f"request to the Prefect server at {_shown_url()} failed: {one_line(error)}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise ServerUnavailable(
            f"{_shown_url()} is not a Prefect server: it did not answer with JSON but, for example, with a proxy's "
            "login page; check PREFECT_API_URL, HTTP_PROXY and NO_PROXY"
        ) from error
    except UnicodeEncodeError as error:
        raise ServerUnavailable(
            "PREFECT_API_KEY or PREFECT_API_AUTH_STRING has a character that is not ASCII: HTTP headers allow none"
        ) from error


def _refusal(response: httpx.Response) -> str:
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        return "Unauthorized: PREFECT_API_AUTH_STRING or PREFECT_API_KEY is missing or wrong"
    return one_line(response.text or f"{response.status_code} {response.reason_phrase}")


def _shown_url() -> str:
    return redact(str(configured_url()))


def check_configured(url: str) -> None:
    """Check that the configured API answers.

    Raises:
        ServerUnavailable: The API does not answer.
    """
    with api() as client:
        problem = client.api_healthcheck()
    if problem is not None:
        raise ServerUnavailable(
            f"no Prefect server answers at {redact(url)} ({one_line(problem)}): "
            "start it, or unset PREFECT_API_URL to use a local server"
        )
