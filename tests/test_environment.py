"""Environment of tests, independent of the shell: variables, signals, home folder; and reports of failed tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from batch_llm.jobs import project_folder
from tests.support.environment import IGNORABLE, KEPT, handle_ignored_signals

OWN = {"HOME", "PREFECT_HOME", "PREFECT_API_URL", "PREFECT_SERVER_ANALYTICS_ENABLED", "DO_NOT_TRACK", "SSL_CERT_FILE"}
LIBRARIES = {"COLUMNS", "LINES", "_RJEM_MALLOC_CONF"}
"""Variables that readline and polars set when a test imports them."""

RUN = [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider"]


@pytest.mark.shell
def test_variables_of_the_shell_are_removed() -> None:
    assert {name for name in os.environ if not KEPT.fullmatch(name)} <= OWN | LIBRARIES
    assert Path(os.environ["HOME"]).name.startswith("batch-llm-home-")


@pytest.mark.shell
def test_a_process_that_a_test_starts_ignores_no_signal() -> None:
    """It blocks no signal, either: otherwise it and its child processes would never end on Ctrl-C."""
    status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    masks = dict(line.split(":\t") for line in status.splitlines() if line.startswith(("SigIgn", "SigBlk")))
    ends = sum(1 << (number - 1) for number in IGNORABLE)
    assert {name: int(mask, 16) & ends for name, mask in masks.items()} == {"SigBlk": 0, "SigIgn": 0}


@pytest.mark.shell
def test_a_signal_that_the_shell_ignores_has_no_effect_on_pytest() -> None:
    """pytest itself ignores it, as under `nohup`; processes that it starts do not."""
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        handle_ignored_signals()
        signal.raise_signal(signal.SIGUSR2)
        assert callable(signal.getsignal(signal.SIGUSR2))
    finally:
        signal.signal(signal.SIGUSR2, before)


FAILING = """
import subprocess, sys

def test_that_fails(tmp_path):
    speak = "import sys; print('said to the test'); print('complained'); sys.exit(7)"
    subprocess.run([sys.executable, "-c", speak], capture_output=True)
    (tmp_path / "batch-llm-server.log").write_text("told by a server")
    with (tmp_path / "own.log").open("w") as log:
        subprocess.run([sys.executable, "-c", "print('written to a log')"], stdout=log)
    raise AssertionError
"""


@pytest.mark.parametrize(
    "conftest", ['pytest_plugins = ["tests.support.environment", "tests.support.started_processes"]']
)
def test_a_failed_test_shows_its_processes(tmp_path: Path, conftest: str) -> None:
    """The report has their commands, exit codes and last lines, and the logs of servers."""
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_failing.py").write_text(FAILING)
    env = {**os.environ, "PYTHONPATH": str(project_folder())}
    done = subprocess.run([*RUN, "test_failing.py"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    for words in ("exit code 7", "said to the test", "written to a log", "told by a server"):
        assert words in done.stdout


@pytest.mark.whole
def test_a_process_that_is_left_running_ends_and_fails_the_run(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import tests.support.started_processes as it\nit.END_SECONDS = 0.5\n"
        'pytest_plugins = ["tests.support.environment", "tests.support.started_processes"]'
    )
    (tmp_path / "test_leaving.py").write_text(
        "import subprocess\ndef test_it():\n    subprocess.Popen(['sleep', '987'], start_new_session=True)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(project_folder())}
    done = subprocess.run([*RUN, "test_leaving.py"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    assert "was left running: sleep 987" in done.stdout
