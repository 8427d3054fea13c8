"""Ports of local servers: one that is still starting keeps its port from other servers of this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from batch_llm.prefect.api import ServerUnavailable
from batch_llm.prefect.deployment import local_server
from batch_llm.prefect.deployment.local_server import FIRST_PORT

PORTS = range(FIRST_PORT + 3000, FIRST_PORT + 3010)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names of sockets without files")
def test_a_port_is_reserved_until_the_process_that_inherited_it_exits() -> None:
    port, reservation = local_server._free_port(PORTS)  # pyright: ignore[reportPrivateUsage]
    command = [sys.executable, "-S", "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(reservation.fileno(),)) as starting:
        reservation.close()
        other, second = local_server._free_port(PORTS)  # pyright: ignore[reportPrivateUsage]
        second.close()
        with pytest.raises(ServerUnavailable, match=f"port {port} cannot be used"):
            local_server._free_port(range(port, port + 1))  # pyright: ignore[reportPrivateUsage]
        starting.communicate(b"\n")
    again, third = local_server._free_port(PORTS)  # pyright: ignore[reportPrivateUsage]
    third.close()
    assert (again, other > port) == (port, True)


@pytest.mark.parametrize(
    ("prefect", "fastapi", "works"),
    [
        ("3.8.8", "0.150.2", True),
        ("3.8.8", "0.151.0", False),
        ("3.8.12", "0.155.1rc1", False),
        ("3.8.8", "1.0.0", False),
        ("3.9.0rc1", "0.155.0", True),
    ],
)
def test_packages_that_cannot_run_a_server_are_named_with_a_fix(prefect: str, fastapi: str, works: bool) -> None:
    problem = local_server.packages_problem(prefect, fastapi)
    assert (problem == "") == works
    assert (
        works or f"Prefect {prefect} does not work with FastAPI {fastapi}: run pip install 'fastapi<0.151'" in problem
    )


def test_a_server_is_not_started_with_packages_that_cannot_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pip installs them without the extra `server`."""
    newer = tmp_path / "fastapi-0.155.0.dist-info"
    newer.mkdir()
    (newer / "METADATA").write_text("Metadata-Version: 2.1\nName: fastapi\nVersion: 0.155.0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(ServerUnavailable, match=r"does not work with FastAPI 0\.155\.0"):
        local_server.launch(home=tmp_path / "prefect")
    assert not (tmp_path / "prefect").exists()
