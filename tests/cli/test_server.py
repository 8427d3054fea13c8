"""The local Prefect server: started once, found again, stopped completely, also when its start is interrupted."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from batch_llm.prefect.deployment.local_server import healthy
from tests.support.command import COMMAND, batch_llm_here, environment
from tests.support.prefect_server import DATABASE, copy_database, eventually

pytestmark = pytest.mark.prefect


@pytest.fixture
def folder(tmp_path: Path, empty_database: Path) -> Path:
    """Folder in which a server has run before, which halves its start time."""
    (tmp_path / "prefect").mkdir()
    if empty_database.exists():
        copy_database(empty_database, tmp_path / "prefect" / DATABASE)
    return tmp_path


def record(folder: Path) -> Path:
    return folder / "prefect" / "batch-llm-server.json"


def test_a_server_is_started_once_found_again_and_stopped(folder: Path) -> None:
    assert batch_llm_here("server", "status", folder=folder).returncode == 1
    try:
        started = batch_llm_here("server", "start", folder=folder)
        assert started.returncode == 0, started.stderr
        url = json.loads(record(folder).read_text())["url"]
        assert f"export PREFECT_API_URL={url}" in started.stdout
        assert healthy(url)
        assert url.removesuffix("/api") in batch_llm_here("server", "start", folder=folder).stdout
        assert batch_llm_here("server", "status", folder=folder).returncode == 0
    finally:
        ended = batch_llm_here("server", "stop", folder=folder)
    assert ended.returncode == 0
    assert not healthy(url)
    assert "No local Prefect server" in batch_llm_here("server", "stop", folder=folder).stdout


@pytest.mark.whole
def test_ctrl_c_while_the_server_starts_leaves_nothing_running(folder: Path) -> None:
    command = [*COMMAND, "demo"]
    with subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=subprocess.PIPE) as process:
        known = json.loads(
            eventually(lambda: record(folder).read_text() if record(folder).exists() else "", seconds=120)
        )
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Run the same command to continue" in said
    assert not Path(f"/proc/{known['pid']}").exists()
    assert not healthy(known["url"])


@pytest.mark.whole
def test_a_server_listens_on_the_port_that_the_user_chose(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = batch_llm_here("server", "start", "--port", str(port), folder=folder)
        assert (refused.returncode, refused.stderr.splitlines()[-1]) == (
            2,
            f"batch-llm: port {port} cannot be used: choose another one with --port",
        )
    try:
        started = batch_llm_here("server", "start", "--port", str(port), folder=folder)
        assert f"export PREFECT_API_URL=http://127.0.0.1:{port}/api" in started.stdout
        other = batch_llm_here("server", "start", "--port", str(port + 1), folder=folder)
        assert (other.returncode, "already runs at" in other.stderr) == (2, True)
    finally:
        batch_llm_here("server", "stop", folder=folder)


@pytest.mark.parametrize("port", ["0", "65536"])
def test_a_port_that_does_not_exist_is_one_line(tmp_path: Path, port: str) -> None:
    done = batch_llm_here("server", "start", "--port", port, folder=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        f"batch-llm: --port is {port}: it must be from 1 to 65535",
    )


def test_a_port_is_refused_if_a_server_is_configured(tmp_path: Path) -> None:
    done = batch_llm_here(
        "server", "start", "--port", "4999", folder=tmp_path, PREFECT_API_URL="http://127.0.0.1:9/api"
    )
    assert (done.returncode, "unset it to start a local server" in done.stderr) == (2, True)


def test_unusable_home_is_one_line(tmp_path: Path) -> None:
    """The line names the setting to change."""
    (tmp_path / "prefect").touch()
    done = batch_llm_here("demo", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        f"batch-llm: cannot start a Prefect server in {tmp_path / 'prefect'}: File exists: set PREFECT_HOME"
    )
    assert "Traceback" not in done.stderr
