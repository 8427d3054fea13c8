"""A Prefect server of a benchmark's own: its process, its address, its database."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from batch_llm.prefect.deployment.local_server import healthy

START_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class PrefectProcess:
    """A Prefect server that answers.

    Attributes:
        env: The environment of processes that are to use it.
        pid: Its process.
        home: Where its database lies.
    """

    env: dict[str, str]
    pid: int
    home: Path

    def database_bytes(self) -> int:
        """Return the size of the database, with what is not checkpointed yet."""
        return sum(path.stat().st_size for path in self.home.glob("prefect.db*"))


@contextmanager
def prefect_server(home: Path) -> Generator[PrefectProcess]:
    """Serve with an empty database in `home`, on SQLite, until the block ends.

    Raises:
        RuntimeError: It does not come up.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    own = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    env = {**os.environ, **own, "PREFECT_API_URL": url}
    home.mkdir(parents=True)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log)
    try:
        _wait_for(url, process)
        yield PrefectProcess(env, process.pid, home)
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while not healthy(url):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"no Prefect server at {url}: exit code {process.poll()}")
        time.sleep(0.2)
