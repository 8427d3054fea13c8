"""The process that runs a flow, in its own session so that the terminal's Ctrl-C does not reach it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

from batch_llm.jobs import home
from batch_llm.jobs.storage.access import make_folder, opener

TERM_SECONDS = 5.0
"""Seconds between SIGTERM and SIGKILL."""


class FlowProcess:
    """A flow run in a process of its own."""

    def __init__(self, run_id: str, entrypoint: str, log: Path) -> None:
        make_folder(log.parent)
        with open(log, "ab", opener=opener) as file:
            self._process = _spawn(run_id, entrypoint, file)

    @property
    def exit_code(self) -> int | None:
        """Exit code of the process; None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for the process to exit; return whether it did."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> None:
        """Terminate the process: SIGTERM, then SIGKILL after `TERM_SECONDS`."""
        self._send(signal.SIGTERM)
        self.wait(TERM_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Kill the process and its children at once."""
        self._send(signal.SIGKILL)
        self._process.wait()

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # the whole group is gone
            os.killpg(self._process.pid, number)


def _spawn(run_id: str, entrypoint: str, log: IO[bytes]) -> subprocess.Popen[bytes]:
    own = {
        "PREFECT__FLOW_RUN_ID": run_id,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "BATCH_LLM_HOME": str(home()),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "prefect.flow_engine", entrypoint],
        env={**os.environ, **own},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
