"""Report on processes in a failed test: command, exit code, last lines of output; pytest loads this as a plugin.

Every `subprocess.Popen` of the test session is recorded, so a test starts processes as usual. At the end of the
session no process may be left that has the session's home directory among its variables.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections import deque
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

TAIL_LINES = 40
SERVER_LOGS = "**/*server*.log"
END_SECONDS = 10.0
"""How long processes may take to end after the last test; Prefect's own sometimes take seconds."""


class RecordedProcess(subprocess.Popen[Any]):
    """Process whose command and output are in the report of a failed test.

    Attributes:
        log: The file that its output is written to, if any.
        outputs: The output that `communicate` (and so `subprocess.run`) has read from its pipes.
    """

    started: list[RecordedProcess] = []  # noqa: RUF012  of all instances

    def __init__(self, args: Any, *more: Any, **options: Any) -> None:
        name = getattr(options.get("stdout"), "name", None)
        self.log = Path(options.get("cwd") or ".", name) if isinstance(name, str) else None
        self.outputs: list[str] = []
        super().__init__(args, *more, **options)
        self.started.append(self)

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:
        try:
            output = super().communicate(input, timeout)
        except subprocess.TimeoutExpired as error:
            self.outputs += [_text(each) for each in (error.stdout, error.stderr) if each]
            raise
        self.outputs += [_text(each) for each in output if each]
        return output

    @property
    def title(self) -> str:
        """The command and its exit code."""
        code = self.poll()
        words = [self.args] if isinstance(self.args, str | bytes | os.PathLike) else list(self.args)
        command = shlex.join(os.fsdecode(word) for word in words)
        command = command if len(command) < 300 else f"{command[:300]}..."
        return f"process {self.pid}, {'still running' if code is None else f'exit code {code}'}: {command}"

    @property
    def output(self) -> str:
        """The last lines of its output."""
        if self.log is not None and self.log.is_file():
            return tail(self.log)
        last_lines = ("\n".join(output.splitlines()[-TAIL_LINES:]) for output in self.outputs)
        return "\n".join(last_lines) or "(no output was read)"


def _text(output: str | bytes) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output


def tail(file: Path) -> str:
    """Return the last lines of a text file."""
    with file.open(errors="replace") as lines:
        return "".join(deque(lines, TAIL_LINES))


def pytest_configure() -> None:
    subprocess.Popen = RecordedProcess


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Forget what has ended before this test; what runs for several tests stays."""
    RecordedProcess.started[:] = [process for process in RecordedProcess.started if process.poll() is None]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the processes of a failed test to its report, and the logs of Prefect servers in its folder."""
    report = yield
    if report.failed:
        report.sections += [(process.title, process.output) for process in RecordedProcess.started]
        shown = {process.log for process in RecordedProcess.started}
        folder: Path | None = getattr(item, "funcargs", {}).get("tmp_path")
        logs = folder.glob(SERVER_LOGS) if folder else ()
        report.sections += [(str(log), tail(log)) for log in logs if log.is_file() and log not in shown]
    return report


@pytest.hookimpl(trylast=True)  # after the session's fixtures and xdist's workers have ended
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what tests have left running, and fail the run for it."""
    if hasattr(session.config, "workerinput"):
        return
    home = os.environ["HOME"]
    end = time.monotonic() + END_SECONDS
    while (left := processes_with(f"HOME={home}")) and time.monotonic() < end:
        time.sleep(0.1)
    for pid, command in left.items():
        _write(session.config, f"process {pid} was left running: {command}")
        os.kill(pid, signal.SIGKILL)
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def processes_with(variable: str) -> dict[int, str]:
    """Return the other processes that were started with this variable, and their commands."""
    found: dict[int, str] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            ends_with_us = "multiprocessing.resource_tracker" in command
            if os.fsencode(variable) in variables and int(process.name) != os.getpid() and not ends_with_us:
                found[int(process.name)] = command
        except OSError:  # it has ended, or is another user's
            continue
    return found


def _write(config: pytest.Config, line: str) -> None:
    terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:
        terminal.write_line(line, red=True)
