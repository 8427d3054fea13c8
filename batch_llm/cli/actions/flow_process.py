"""The process that runs a flow, in its own session so that the terminal's Ctrl-C does not reach it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from batch_llm.errors import BatchLLMError
from batch_llm.prefect.flow_channel import Channel, FlowState

TERM_SECONDS = 5.0
"""Seconds between SIGTERM and SIGKILL."""

EXIT_SECONDS = 30.0
"""Seconds that a process has to exit after its run has finished."""


class FlowProcess:
    """The process of a flow run; it starts before its run exists, because its imports take seconds.

    Attributes:
        state: Final state of the run, as the process reported it; None before.
    """

    def __init__(self) -> None:
        self.state: FlowState | None = None
        self._has_run = False
        ours, theirs = socket.socketpair()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        with theirs:
            self._process = _spawn(theirs.fileno(), self._output.fileno())
        self._channel = Channel(ours)

    @classmethod
    @contextmanager
    def started(cls) -> Generator[FlowProcess]:
        """Start a process; at the end of the block, wait until it has exited, or kill it if it has no run."""
        process = cls()
        try:
            yield process
        finally:
            process.close()

    @property
    def exit_code(self) -> int | None:
        """Exit code of the process; None while it runs."""
        return self._process.poll()

    def request(self, name: str, **arguments: Any) -> Any:
        """Have the process do something, and return the result; after `create_run` it runs the flow.

        Raises:
            BatchLLMError: The request failed, or the process exited.
        """
        with suppress(OSError):
            self._channel.send({"request": name, **arguments})
        reply = self._channel.receive()
        if reply is None:
            code = self._process.wait()
            raise BatchLLMError(f"the flow's process exited with code {code}: {self._last_line()}")
        if "error" in reply:
            raise BatchLLMError(reply["error"])
        self._has_run = self._has_run or name == "create_run"
        return reply["result"]

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for the end of the run; return whether it finished, or the process exited."""
        if self.state is not None:
            return True
        try:
            message = self._channel.receive(seconds)
        except TimeoutError:
            return False
        if message is None:  # the process does not report a state that it cannot read, or was killed
            return self._exits_within(seconds)
        self.state = FlowState(*message["state"])
        return True

    def end(self) -> None:
        """Terminate the process: SIGTERM, then SIGKILL after `TERM_SECONDS`."""
        if self.state is None or not self._exits_within(TERM_SECONDS):
            self._send(signal.SIGTERM)
            self._exits_within(TERM_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Kill the process and its children at once."""
        self._send(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Kill a process without a run; wait for the exit of one whose run has finished."""
        if not self._has_run:
            self.kill()
        elif self.state is not None and not self._exits_within(EXIT_SECONDS):  # its last log lines are sent
            self.end()
        self._channel.close()
        self._output.close()

    def _exits_within(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # the whole group is gone
            os.killpg(self._process.pid, number)

    def _last_line(self) -> str:
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it printed no reason")


class RemoteSettings:
    """Prefect's settings in the process of a flow run, for a command that does not import Prefect.

    Args:
        process: The process.
        url: Address of the configured API; None if there is none.
        home: Prefect's home folder.
    """

    def __init__(self, process: FlowProcess, url: str | None, home: Path) -> None:
        self.url, self.home = url, home
        self._process = process

    def check(self, url: str) -> None:
        """Check that the API answers; see `api.check_configured`."""
        self._process.request("check_server", url=url)

    def use(self, url: str) -> None:
        """Use this API in the flow's process."""
        self._process.request("use_server", url=url)

    def restore(self) -> None:
        """Do nothing: the process ends with the run."""


def _spawn(channel: int, output: int) -> subprocess.Popen[bytes]:
    own = {
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "BATCH_LLM_HOME": os.environ.get("BATCH_LLM_HOME")
        or str(Path.cwd()),  # as `jobs.home`, whose import takes long
    }
    return subprocess.Popen(
        [sys.executable, "-m", "batch_llm.prefect.flow_engine", str(channel)],
        env={**os.environ, **own},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=[channel],
        start_new_session=True,
    )
