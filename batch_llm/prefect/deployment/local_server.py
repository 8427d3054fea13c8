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
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from prefect.settings import get_current_settings

from batch_llm.prefect.api import ServerUnavailable

FIRST_PORT = 4200
"""Of an error text, which may repeat all that it was sent."""


START_SECONDS = 180.0
STOP_SECONDS = 15.0


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
