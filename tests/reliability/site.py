"""Three machines, a Prefect server on PostgreSQL and an S3 server, set up as the README says under "Many machines".

A machine is a group of processes with home folders of its own; it shares nothing with the others but the servers.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import fsspec  # pyright: ignore[reportMissingTypeStubs]  has none
import httpx
from moto.server import ThreadedMotoServer

from batch_llm.prefect.deployment.local_server import healthy
from tests.support.postgres import postgres
from tests.support.prefect_server import eventually
from tests.support.servers import OpenAIServer

from . import network

BIN = Path(sys.executable).parent
CHECKOUT = Path(__file__).parents[2]
PATIENCE_SECONDS = 240.0
until = partial(eventually, seconds=PATIENCE_SECONDS)
MACHINES = ("north", "east", "south")
CHAPTER = (CHECKOUT / "deployments" / "README.md").read_text().split("\n## Many machines\n")[1].split("\n## ")[0]
TO_SERVE, TO_DEPLOY, TO_WORK, TO_RUN = re.findall(r"^```bash\n(.*?)\n```", CHAPTER, flags=re.DOTALL | re.MULTILINE)
"""Scripts of the README: for the server, for one machine, for each machine, and for the shell that deployed."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Settings of a trial; `cut` is KILL, STOP or LINK."""

    items: int
    workers: int
    cut: str
    latency: float

    @property
    def address(self) -> str:
        """Address of the servers."""
        return network.ADDRESS if self.cut == "LINK" else "127.0.0.1"


@dataclass
class Site:
    """Servers and machines of a trial."""

    folder: Path
    trial: Trial
    provider: OpenAIServer
    api: str
    environment: dict[str, str]
    machines: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, "subprocess.Popen[bytes]"])

    def shell(self, script: str, *more: str) -> subprocess.Popen[str]:
        """Run a script of the README in a shell."""
        return subprocess.Popen(
            typed(script, *more, api=self.api),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def start(self, machine: str) -> None:
        """Start a machine: a worker with its own home folder."""
        home = self.folder / machine
        home.mkdir()
        own = {"HOME": str(home), "PWD": str(home), "PREFECT_HOME": str(home / "prefect"), "MACHINE": str(home)}
        command = typed(TO_WORK, api=self.api)
        if self.trial.cut == "LINK":
            command = network.on_a_link(machine, MACHINES.index(machine), command)
        with (home / "worker.log").open("wb") as log:
            self.machines[machine] = subprocess.Popen(
                command,
                cwd=home,
                env={**self.environment, **own, "PREFECT_WORKER_QUERY_SECONDS": "2"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def is_online(self, machine: str) -> bool:
        """Return whether the machine's worker is registered on the server."""
        log = (self.folder / machine / "worker.log").read_text()
        assert self.machines[machine].poll() is None, log
        return "started!" in log

    def processes(self, machine: str) -> list[int]:
        """Return all processes of a machine."""
        mark = f"MACHINE={self.folder / machine}".encode()
        numbers = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
        return [number for number in numbers if mark in _environ(number)]

    def cut(self, machine: str) -> None:
        """Lose a machine in the way of the trial."""
        if self.trial.cut == "LINK":
            network.take_down(machine)
        else:
            self._signal(machine, signal.Signals[f"SIG{self.trial.cut}"])

    def mend(self, machine: str) -> None:
        """Bring a machine back."""
        if self.trial.cut == "LINK":
            network.bring_up(machine)
        else:
            self._signal(machine, signal.SIGCONT)

    def _signal(self, machine: str, number: signal.Signals) -> None:
        for process in self.processes(machine):
            try:
                os.kill(process, number)
            except ProcessLookupError:
                continue

    def carriers(self) -> dict[str, int]:
        """Return how many processes of flow runs each machine has."""
        return {
            machine: sum(b"PREFECT__FLOW_RUN_ID" in b" ".join(_environ(process)) for process in self.processes(machine))
            for machine in self.machines
        }

    def close(self) -> None:
        """End all machines."""
        for machine, process in self.machines.items():
            self._signal(machine, signal.SIGKILL)
            process.wait(30)


def typed(script: str, *more: str, api: str = "", database: str = "", address: str = "") -> list[str]:
    """Return a command for what the README has typed, with the addresses of here, and `more` after its last line."""
    places = {
        "postgresql+asyncpg://prefect:secret@database/prefect": database,
        "0.0.0.0": address,
        "http://server:4200/api": api,
    }
    for place, here in places.items():
        script = script.replace(place, here)
    *before, last = re.split(r"(?<!\\)\n", script)
    return ["bash", "-ec", "\n".join([*before, f"exec {last} {shlex.join(more)}"])]


def exports(script: str) -> str:
    """Return what a script leaves in the environment of its shell."""
    return "".join(f"{line}\n" for line in script.splitlines() if line.startswith("export "))


@contextmanager
def site(folder: Path, trial: Trial) -> Generator[Site]:
    """Start all servers, without a machine."""
    # Listing while others delete is an error in moto, as in S3 now and then; the client asks again.
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        provider = stack.enter_context(OpenAIServer(host=trial.address, latency=trial.latency))
        store = ThreadedMotoServer(trial.address, 0, verbose=False)
        store.start()
        stack.callback(store.stop)
        bucket = {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret-of-a-test",
            "AWS_ENDPOINT_URL": "http://{}:{}".format(*store.get_host_and_port()),
        }
        os.environ.update(bucket)  # for what this process looks at
        kept = {name: value for name, value in os.environ.items() if name not in {"BATCH_LLM_HOME", "PREFECT_API_URL"}}
        environment = {
            **kept,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PWD": str(folder),
            "PREFECT_HOME": str(folder / "user"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "OPENAI_BASE_URL": provider.base_url,
            "OPENAI_API_KEY": "test-key-that-is-no-secret",
        }
        database = stack.enter_context(postgres(folder))
        api = stack.enter_context(_prefect(folder, database, trial.address, environment))
        files: Any = fsspec.filesystem("s3")  # pyright: ignore[reportUnknownMemberType]
        files.mkdir("bucket")
        lines = (json.dumps({"id": f"d{number}", "text": f"document {number}"}) for number in range(trial.items))
        files.pipe_file("bucket/docs.jsonl", "".join(f"{line}\n" for line in lines).encode())
        made = Site(folder, trial, provider, api, environment)
        stack.callback(made.close)
        yield made


@contextmanager
def _prefect(folder: Path, database: str, address: str, environment: dict[str, str]) -> Generator[str]:
    with socket.create_server((address, 0)) as probe:
        port: int = probe.getsockname()[1]
    api = f"http://{address}:{port}/api"
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            typed(TO_SERVE, "--port", str(port), api=api, database=database, address=address),
            env={**environment, "PREFECT_HOME": str(folder / "server")},
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: healthy(api))
        shown = httpx.get(api.replace("/api", "/ui-settings")).json()["api_url"]
        assert shown == api, f"the UI's API URL is {shown}"
        yield api
    finally:
        server.terminate()
        server.wait(30)


def _environ(process: int) -> list[bytes]:
    try:
        return Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:  # it is gone
        return []
