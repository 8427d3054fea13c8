"""The Prefect server that is configured: its address, a client, and one line for what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from contextlib import contextmanager
from http import HTTPStatus
from itertools import islice

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.deployments.runner import DeploymentApplyError
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import get_current_settings
from pydantic import ValidationError

from batch_llm.errors import BatchLLMError
from batch_llm.jobs.secrets import redact

MOST_LETTERS = 400


_REASON = re.compile(r"""["']msg["']\s*:\s*["']([^"']{1,300})|(Flow run parameters must be [^"'\]]{1,100})""")


API_SECONDS = 30.0


class ServerUnavailable(BatchLLMError):
    """There is no Prefect server to talk to: one line that says which and why."""


def configured_url() -> str | None:
    """Return the API that `PREFECT_API_URL` or Prefect's active profile names."""
    return get_current_settings().api.url


@contextmanager
def api() -> Generator[SyncPrefectClient]:
    """A client of the server's API; what goes wrong on the way is one line.

    Raises:
        ServerUnavailable: The server does not answer, or refuses.
    """
    try:
        with get_client(httpx_settings={"timeout": API_SECONDS}, sync_client=True) as client:
            yield client
    except PrefectHTTPStatusError as error:
        raise ServerUnavailable(f"the Prefect server refuses: {_refusal(error.response)}") from error
    except (httpx.HTTPError, DeploymentApplyError) as error:
        raise ServerUnavailable(f"the Prefect server at {_shown_url()} fails: {one_line(error)}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise ServerUnavailable(
            f"what answers at {_shown_url()} is not a Prefect server: it sent something else than its JSON, such as a "
            "proxy's login page; see PREFECT_API_URL, HTTP_PROXY and NO_PROXY"
        ) from error
    except UnicodeEncodeError as error:
        raise ServerUnavailable(
            "PREFECT_API_KEY or PREFECT_API_AUTH_STRING cannot be sent: it has a character that is not ASCII"
        ) from error


def _refusal(response: httpx.Response) -> str:
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        return "Unauthorized: PREFECT_API_AUTH_STRING or PREFECT_API_KEY is missing or wrong"
    return one_line(response.text or f"{response.status_code} {response.reason_phrase}")


def _shown_url() -> str:
    return redact(str(configured_url()))


def one_line(error: object) -> str:
    """Return what an error says, in one short line that is not empty, and has no secrets.

    Prefect repeats all parameters of a run, and their schema, where it refuses one of them; then the reasons are picked
    out.
    """
    text = str(error)
    if len(text) > MOST_LETTERS:
        reasons = dict.fromkeys(match[1] or match[2] for match in islice(_REASON.finditer(text), 3))
        text = f"{text[:100]} ... {'; '.join(reasons)}" if reasons else f"{text[:MOST_LETTERS]} ..."
    return redact(" ".join(text.split()))[: 2 * MOST_LETTERS] or type(error).__name__


def check_configured(url: str) -> None:
    """See that the configured API answers.

    Raises:
        ServerUnavailable: It does not.
    """
    with api() as client:
        problem = client.api_healthcheck()
    if problem is not None:
        raise ServerUnavailable(
            f"no Prefect server answers at {redact(url)} ({one_line(problem)}): "
            "start it, or unset PREFECT_API_URL for a local one"
        )
