"""Network of a trial: each machine is in its own network namespace, on a link that can be taken down.

    this process's namespace        the bridge `machines` with 10.77.0.1, where servers listen
      link `north`                  10.77.0.2, in the namespace of the machine north
      ...

Nothing outside reaches it, and it ends with the processes in it. It takes root on Linux, and `ip`.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess

ADDRESS = "10.77.0.1"
BRIDGE = "machines"
CLONE_NEWNET = 0x40000000
"""Constant of linux/sched.h."""

JOIN = """
ip link set lo up
ip link add eth0 type veth peer name {name} netns {process}
ip address add {address}/24 dev eth0
ip link set eth0 up
nsenter --net=/proc/{process}/ns/net ip link set {name} master {bridge} up
exec "$@"
"""


def missing() -> str:
    """Return why this machine cannot have such a network, or an empty text."""
    if absent := [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]:
        return f"no {', '.join(absent)} here: apt-get install iproute2 util-linux"
    trial = f"ip link add {BRIDGE} type bridge && ip link add one type veth peer name other"
    tried = subprocess.run(["unshare", "--net", "sh", "-c", trial], capture_output=True, text=True, check=False)
    return f"this machine allows no network of one's own: {tried.stderr.strip()}" if tried.returncode else ""


def enter() -> None:
    """Move this process and its later children into a namespace that has only the bridge."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):  # os.unshare comes with Python 3.12
        raise OSError(ctypes.get_errno(), "no namespace of its own for this process")
    _ip("link", "set", "lo", "up")
    _ip("link", "add", BRIDGE, "type", "bridge")
    _ip("address", "add", f"{ADDRESS}/24", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")


def on_a_link(name: str, number: int, command: list[str]) -> list[str]:
    """Return a command that runs `command` in its own namespace, on the link `name`."""
    address = f"{ADDRESS.rpartition('.')[0]}.{number + 2}"
    join = JOIN.format(name=name, address=address, bridge=BRIDGE, process=os.getpid())
    return ["unshare", "--net", "bash", "-ec", join, name, *command]


def take_down(name: str) -> None:
    """Disconnect a machine."""
    _ip("link", "set", name, "down")


def bring_up(name: str) -> None:
    """Reconnect a machine."""
    _ip("link", "set", name, "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
