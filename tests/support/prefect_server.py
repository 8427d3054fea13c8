"""One real Prefect server for all tests of a session that need one; pytest loads this as a plugin.

Tests that use it carry `pytestmark = pytest.mark.prefect`. Each worker of xdist that runs one has a server of its own
(`distribution.py` gives those of the quick run to one worker), which takes 11 to 30 seconds to come up the first time.
Half of that makes the tables of an empty database, so that one is kept in pytest's cache for the servers after it.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
START_SECONDS = 120
DATABASE = "prefect.db"
NOT_NEEDED = (
    *("FOREMAN", "LATE_RUNS", "PAUSE_EXPIRATIONS", "REPOSSESSOR"),
    *("CANCELLATION_CLEANUP", "CLEANUP_RECONCILER", "DB_VACUUM"),
)
"""Services that look at the database every few seconds, for what no test has: half of an idle server's CPU."""

BATCHES = {
    "TASK_RUN_RECORDER_BATCH_SIZE": "20",
    "TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",  # Prefect rounds it down, and waits for 0 s in a loop that never rests
    "EVENT_PERSISTER_FLUSH_INTERVAL": "0.3",
}
"""Settings of services: by default, each event of a task run is a transaction, and others are stored after 5 s."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "prefect: needs the session's Prefect server")


@pytest.fixture(scope="session")
def empty_database(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of an empty database of this Prefect version; without pytest's cache, for this session only."""
    cache: pytest.Cache | None = getattr(pytestconfig, "cache", None)
    folder = (
        tmp_path_factory.mktemp("prefect-database") if cache is None else cache.mkdir(f"prefect-{version('prefect')}")
    )
    return folder / DATABASE


def copy_database(found: Path, to: Path) -> None:
    """Copy a database that a server may have open, atomically."""
    part = to.with_suffix(f".{os.getpid()}")
    with closing(sqlite3.connect(found)) as source, closing(sqlite3.connect(part)) as target:
        source.backup(target)
    part.replace(to)


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[str]:
    """Start a Prefect server with an empty database, and return its API URL."""
    from prefect.context import refresh_global_settings_context
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    from batch_llm.prefect.deployment.local_server import healthy

    home = tmp_path_factory.mktemp("prefect")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    env = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    env["PREFECT_SERVER_UI_API_URL"] = url  # else the UI asks port 4200
    if empty_database.exists():
        copy_database(empty_database, home / DATABASE)
        env["PREFECT_SERVER_DATABASE_MIGRATE_ON_START"] = "false"
    env |= {f"PREFECT_SERVER_SERVICES_{service}_ENABLED": "false" for service in NOT_NEEDED}
    env |= {f"PREFECT_SERVER_SERVICES_{setting}": value for setting, value in BATCHES.items()}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        eventually(lambda: healthy(url), seconds=START_SECONDS)
        if not empty_database.exists():
            copy_database(home / DATABASE, empty_database)
        os.environ.update(PREFECT_API_URL=url, PREFECT_HOME=str(home), DO_NOT_TRACK="1")
        refresh_global_settings_context()  # what threads see that Prefect starts without a context of their own
        with temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: home}):
            yield url
    finally:
        _send_what_waits()
        server.terminate()
        server.wait(30)


def _send_what_waits() -> None:
    """Send Prefect's last logs and events: at exit, after the server stopped, it would try for a minute."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=10)


def eventually(probe: Callable[[], T], *, seconds: float = 30) -> T:
    """Call `probe` until it returns a true value, and return that; fail after `seconds`.

    The intervals grow from 0.1 to 0.4 s, because most probes ask a Prefect server, which shares the machine's cores.
    """
    end, interval = time.monotonic() + seconds, 0.1
    while not (found := probe()):
        if time.monotonic() > end:
            raise AssertionError(f"nothing came of it within {seconds} s: {probe}")
        time.sleep(interval)
        interval = min(0.4, 1.2 * interval)
    return found


def rows(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON lines file."""
    import json

    return [json.loads(line) for line in path.read_text().splitlines()]
