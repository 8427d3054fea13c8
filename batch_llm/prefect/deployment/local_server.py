"""The local Prefect server, which keeps running after the command that started it.

Prefect's home folder has a record with the server's address and process id, and its log. The server has a lock on its
log while it runs, so that a stale record is never used, a reused process id is never killed, and two commands never
start two servers. Importing this module does not import Prefect.
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
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import IO

from batch_llm.prefect.server_errors import ServerUnavailable

FIRST_PORT = 4200
"""First port to try."""


START_SECONDS = 180.0
HEALTH_POLL_SECONDS = 0.2
STOP_SECONDS = 15.0


@dataclass(slots=True)
class LocalServer:
    """A Prefect server on this machine that a batch-llm command started.

    Attributes:
        url: Address of the server's API.
        pid: Id of the server's process, which leads its own process group.
        home: Prefect's home folder.
        process: The server's process, if this command started it.
    """

    url: str
    pid: int
    home: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False, compare=False)


def prefect_home() -> Path:
    """Return the home folder of Prefect's settings, which it imports."""
    from prefect.settings import get_current_settings

    return get_current_settings().home


def running(home: Path | None = None) -> LocalServer | None:
    """Return the local server, or None if it is not running.

    Args:
        home: Prefect's home folder; None for that of its settings.
    """
    home = home or prefect_home()
    try:
        known = json.loads(_record(home).read_text())
        with _log(home).open("a") as log:
            if _locked(log, fcntl.LOCK_SH):
                return None
        return LocalServer(str(known["url"]), int(known["pid"]), home)
    except (OSError, ValueError, KeyError):
        return None


def launch(port: int | None = None, home: Path | None = None) -> LocalServer | None:
    """Start a local server without waiting for it; return None if another command is starting one.

    Args:
        port: Port of the server; None for the first free one from `FIRST_PORT`.
        home: Prefect's home folder; None for that of its settings.

    Raises:
        ServerUnavailable: The server cannot be started with the installed packages, or the port is in use.
    """
    home = home or prefect_home()
    if problem := packages_problem(version("prefect"), version("fastapi")):
        raise ServerUnavailable(problem)
    try:
        return _launch(range(FIRST_PORT, FIRST_PORT + 100) if port is None else range(port, port + 1), home)
    except OSError as error:
        why = error.strerror or error
        raise ServerUnavailable(
            f"cannot start a Prefect server in {home}: {why}: set PREFECT_HOME to a writable folder"
        ) from error


def packages_problem(prefect: str, fastapi: str) -> str:
    """Return why these versions of Prefect and FastAPI cannot run a server, and what to do; empty if they can.

    The server of Prefect 3.8 rejects its own client's requests with FastAPI 0.151, and does not start with 0.155.

    Example:
        >>> packages_problem("3.8.8", "0.150.0")
        ''
    """
    if _numbers(prefect) >= (3, 9) or _numbers(fastapi) < (0, 151):
        return ""
    return (
        f"a server of Prefect {prefect} does not work with FastAPI {fastapi}: run pip install 'fastapi<0.151' (the "
        "extra batch-llm[server]), or set PREFECT_API_URL to a server that runs in another environment"
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _launch(ports: range, home: Path) -> LocalServer | None:
    home.mkdir(parents=True, exist_ok=True)
    with _log(home).open("a") as log:
        if not _locked(log, fcntl.LOCK_EX):
            return None
        log.truncate(0)
        port, reservation = _free_port(ports)
        url = f"http://127.0.0.1:{port}/api"
        _record(home).unlink(missing_ok=True)
        with reservation:
            process = _spawn(port, url, log, home, reservation)
        _record(home).write_text(json.dumps({"url": url, "pid": process.pid}))
    return LocalServer(url, process.pid, home, process)


def wait_until_healthy(server: LocalServer) -> None:
    """Wait until the server answers.

    Raises:
        ServerUnavailable: The server exited, or did not answer in time.
    """
    end = time.monotonic() + START_SECONDS
    while not healthy(server.url):
        if running(server.home) is None:
            raise ServerUnavailable(f"the Prefect server exited while starting: see {_log(server.home)}")
        if time.monotonic() > end:
            raise ServerUnavailable(
                f"the Prefect server did not answer within {START_SECONDS:.0f} s: see {_log(server.home)}"
            )
        time.sleep(HEALTH_POLL_SECONDS)


def healthy(url: str) -> bool:
    """Return whether a Prefect API answers at this address."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the server is on this machine
    try:
        with direct.open(f"{url}/health", timeout=5) as answer:
            return answer.status == 200
    except (OSError, http.client.HTTPException):  # another program may answer, without HTTP
        return False


def stop(server: LocalServer, *, patience: float = STOP_SECONDS) -> None:
    """Stop the server and wait until it exits; kill it after `patience` seconds."""
    for send, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, STOP_SECONDS)):
        if running(server.home) is None:
            break
        os.killpg(server.pid, send)
        _wait_until_gone(server.home, seconds)
    if server.process is not None:
        server.process.wait(STOP_SECONDS)
    _record(server.home).unlink(missing_ok=True)


def _wait_until_gone(home: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while running(home) is not None and time.monotonic() < end:
        time.sleep(0.1)


def _record(home: Path) -> Path:
    return home / "batch-llm-server.json"


def _log(home: Path) -> Path:
    return home / "batch-llm-server.log"


def _locked(file: IO[str], kind: int) -> bool:
    """Try to take the lock; it is released when the last process with this open file exits."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _free_port(ports: range) -> tuple[int, socket.socket]:
    """Return a free port, and a socket that reserves it until the server's process, which inherits it, exits.

    A server listens some seconds after its start: until then, another server of this machine would find its port free.
    """
    for port in ports:
        reservation = socket.socket(socket.AF_UNIX)
        try:
            if sys.platform == "linux":  # a name without a file, which exists as long as the socket
                reservation.bind(f"\0batch-llm-port-{port}")
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            reservation.close()
        else:
            return port, reservation
    if len(ports) == 1:
        raise ServerUnavailable(f"port {ports[0]} cannot be used: choose another one with --port")
    raise ServerUnavailable(f"all ports from {ports[0]} to {ports[-1]} are in use: free one, or set PREFECT_API_URL")


def _spawn(port: int, url: str, log: IO[str], home: Path, reservation: socket.socket) -> subprocess.Popen[bytes]:
    own = {
        # Without this setting, the UI sends requests to port 4200 even if the server has another one.
        "PREFECT_SERVER_UI_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, **own},
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=(reservation.fileno(),),
        start_new_session=True,  # the terminal's Ctrl-C must not reach it
    )
