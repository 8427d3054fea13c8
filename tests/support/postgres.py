"""A PostgreSQL server for tests, if Debian's package `postgresql` is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

NAMES = ("initdb", "pg_ctl", "postgres")


def missing() -> str:
    """Return why no server can be started here, or an empty text."""
    if absent := [name for name in NAMES if _program(name) is None]:
        return f"no {', '.join(absent)} here: apt-get install postgresql"
    if os.getuid() == 0 and shutil.which("runuser") is None:
        return "PostgreSQL does not run as root, and there is no runuser here"
    return ""


@contextmanager
def postgres(folder: Path) -> Generator[str]:
    """Run a server with its data in `folder`, and yield the URL of an empty database in Prefect's form."""
    data = folder / "postgres"
    data.mkdir(parents=True)
    if os.getuid() == 0:
        shutil.chown(data, "postgres", "postgres")
        for parent in [folder, *folder.parents]:  # tests' folders are their owner's alone
            if parent.stat().st_uid == os.getuid() and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={data} -c max_connections=100"
    _run("initdb", "--username=prefect", "--auth=trust", "--no-sync", "-D", str(data))
    _run("pg_ctl", "-D", str(data), "-w", "-l", str(data / "log"), "-o", options, "start")
    try:
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres"
    finally:
        _run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")


def _run(name: str, *arguments: str) -> None:
    program = _program(name)
    assert program is not None
    user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    done = subprocess.run(
        [*user, program, *arguments],
        cwd="/",
        stdout=subprocess.DEVNULL,  # the server keeps it open
        stderr=subprocess.PIPE if name == "initdb" else subprocess.DEVNULL,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{name}: {done.stderr}"


def _program(name: str) -> str | None:
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(installed[-1]) if installed else None)
