"""The Prefect server: the one that is configured, else a local one that outlives the command that started it.

What we know of the local server lies in Prefect's home folder: a record with its address and process, and its log. The
server holds a lock on its log for as long as it lives, so that a stale record is never believed, a process id that
another program got meanwhile is never killed, and two commands never start two servers.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import IO

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.deployments.runner import DeploymentApplyError
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import get_current_settings
from pydantic import ValidationError

from batch_llm.errors import BatchLLMError
from batch_llm.jobs.redact import redact

FIRST_PORT = 4200
MOST_LETTERS = 400
"""Of an error text, which may repeat all that it was sent."""

_REASON = re.compile(r"""["']msg["']\s*:\s*["']([^"']{1,300})|(Flow run parameters must be [^"'\]]{1,100})""")

START_SECONDS = 180.0
STOP_SECONDS = 15.0
API_SECONDS = 30.0


class ServerUnavailable(BatchLLMError):
    """There is no Prefect server to talk to: one line that says which and why."""


@dataclass(slots=True)
class LocalServer:
    """A Prefect server on this machine that one of our commands started.

    Attributes:
        url: The address of its API.
        pid: Its process, which leads a group of its own.
        process: The same, where this command started it.
    """

    url: str
    pid: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False, compare=False)


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


def running() -> LocalServer | None:
    """Return the local server that a command of ours started, if it lives."""
    try:
        known = json.loads(_record().read_text())
        with _log().open("a") as log:
            if _locked(log, fcntl.LOCK_SH):
                return None
        return LocalServer(str(known["url"]), int(known["pid"]))
    except (OSError, ValueError, KeyError):
        return None


def launch() -> LocalServer | None:
    """Start a local server, without waiting for it; None when another command is just about to.

    Raises:
        ServerUnavailable: It cannot be started here.
    """
    try:
        return _launch()
    except OSError as error:
        home, why = get_current_settings().home, error.strerror or error
        raise ServerUnavailable(
            f"no Prefect server can be started in {home}: {why}: set PREFECT_HOME to a folder that can be written"
        ) from error


def _launch() -> LocalServer | None:
    _log().parent.mkdir(parents=True, exist_ok=True)
    with _log().open("a") as log:
        if not _locked(log, fcntl.LOCK_EX):
            return None
        log.truncate(0)
        port = _free_port()
        url = f"http://127.0.0.1:{port}/api"
        _record().unlink(missing_ok=True)
        process = _spawn(port, url, log)
        _record().write_text(json.dumps({"url": url, "pid": process.pid}))
    return LocalServer(url, process.pid, process)


def wait_until_healthy(server: LocalServer) -> None:
    """Wait until the server answers.

    Raises:
        ServerUnavailable: It ended, or did not answer in time.
    """
    end = time.monotonic() + START_SECONDS
    while not healthy(server.url):
        if running() is None:
            raise ServerUnavailable(f"the Prefect server ended while it started: see {_log()}")
        if time.monotonic() > end:
            raise ServerUnavailable(f"the Prefect server did not answer within {START_SECONDS:.0f} s: see {_log()}")
        time.sleep(0.3)


def healthy(url: str) -> bool:
    """Whether a Prefect API answers here."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine
    try:
        with direct.open(f"{url}/health", timeout=5) as answer:
            return answer.status == 200
    except (OSError, http.client.HTTPException):  # what answers may not speak HTTP
        return False


def stop(server: LocalServer, *, patience: float = STOP_SECONDS) -> None:
    """End the server and wait until it is gone; after `patience` seconds it is killed."""
    for send, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, STOP_SECONDS)):
        if running() is None:
            break
        os.killpg(server.pid, send)
        _wait_until_gone(seconds)
    if server.process is not None:
        server.process.wait(STOP_SECONDS)
    _record().unlink(missing_ok=True)


def _wait_until_gone(seconds: float) -> None:
    end = time.monotonic() + seconds
    while running() is not None and time.monotonic() < end:
        time.sleep(0.1)


def _record() -> Path:
    return get_current_settings().home / "batch-llm-server.json"


def _log() -> Path:
    return get_current_settings().home / "batch-llm-server.log"


def _locked(file: IO[str], kind: int) -> bool:
    """Take the lock if nobody holds it; it goes with the last process that has this file open."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _free_port() -> int:
    for port in range(FIRST_PORT, FIRST_PORT + 100):
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
    raise ServerUnavailable(f"ports {FIRST_PORT} to {FIRST_PORT + 99} are all taken: set PREFECT_API_URL")


def _spawn(port: int, url: str, log: IO[str]) -> subprocess.Popen[bytes]:
    own = {
        # On another port than 4200 the UI asks there all the same, unless it is told.
        "PREFECT_SERVER_UI_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, **own},
        cwd=_log().parent,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # the terminal's Ctrl-C is not meant for it
    )
