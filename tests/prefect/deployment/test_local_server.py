"""Ports of local servers: one that is still starting keeps its port from other servers of this machine."""

from __future__ import annotations

import subprocess
import sys

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
