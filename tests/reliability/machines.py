"""Carry one run on three machines, lose one of them in the middle, and count at the provider what that cost.

    python -m tests.reliability.machines

The machines are process groups that share nothing but a Prefect server on PostgreSQL and an S3 server: each has its own
home folders and a Prefect worker. What is typed on them is what the README says under "Many machines". `--cut KILL` is
a machine without power; `--cut STOP` one that stands still for longer than the others wait, and comes back: that takes
two minutes more.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import fsspec  # pyright: ignore[reportMissingTypeStubs]  has none
from moto.server import ThreadedMotoServer

from batch_llm.jobs import BatchJob, job_store
from batch_llm.jobs.files import objects_in
from batch_llm.jobs.ledger import record_files
from batch_llm.prefect.server import healthy
from tests.benchmarks.report import Bound, judge
from tests.postgres import missing, postgres
from tests.providers.servers import OpenAIServer

T = TypeVar("T")
BIN = Path(sys.executable).parent
CHECKOUT = Path(__file__).parents[2]
PATIENCE_SECONDS = 240.0
MACHINES = ("north", "east", "south")
CHAPTER = (CHECKOUT / "README.md").read_text().split("\n## Many machines\n")[1].split("\n## ")[0]
TO_SERVE, TO_WORK, TO_RUN = re.findall(r"^```bash\n(.*?)\n```", CHAPTER, flags=re.DOTALL | re.MULTILINE)
"""What the README has typed on the server, on each machine, and on any of them; the last line of each may get more."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried."""

    items: int
    workers: int
    cut: str
    latency: float


@dataclass
class Site:
    """Servers, machines, and the run that they carry."""

    folder: Path
    trial: Trial
    provider: OpenAIServer
    environment: dict[str, str]
    machines: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, "subprocess.Popen[bytes]"])

    @property
    def job(self) -> dict[str, Any]:
        """The settings of the run."""
        return {
            "name": "machines",
            "source": "s3://machines/docs.jsonl",
            "output": str(self.folder / "out.jsonl"),
            "ledger": "s3://machines/ledger",
            "prompt": "{text}",
            "instructions": "",
            "output_schema": None,
            "model": "openai-chat:gpt-6-luna",
            "shard_size": max(1, self.trial.items // 12),
            "config": {"max_workers": self.trial.workers},
            "runner": "pool",
            "runner_options": {"processes": len(MACHINES)},
        }

    def start(self, machine: str) -> None:
        """Start a machine: a worker, with nothing of the others' on it."""
        home = self.folder / machine
        home.mkdir()
        own = {"HOME": str(home), "PWD": str(home), "PREFECT_HOME": str(home / "prefect"), "MACHINE": machine}
        with (home / "worker.log").open("wb") as log:
            self.machines[machine] = subprocess.Popen(
                typed(TO_WORK, "--name", machine, api=self.environment["PREFECT_API_URL"]),
                cwd=home,
                env={**self.environment, **own, "PREFECT_WORKER_QUERY_SECONDS": "2"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def processes(self, machine: str) -> list[int]:
        """Return all processes of a machine."""
        mark = f"MACHINE={machine}".encode()
        numbers = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
        return [number for number in numbers if mark in _environ(number)]

    def signal(self, machine: str, number: signal.Signals) -> None:
        """Send a signal to all of them."""
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
            self.signal(machine, signal.SIGKILL)
            process.wait(30)


def typed(script: str, *more: str, api: str = "", database: str = "") -> list[str]:
    """Return a command for what the README has typed, with the addresses of here, and `more` after its last line."""
    places = {
        "postgresql+asyncpg://prefect:secret@database/prefect": database,
        "0.0.0.0": "127.0.0.1",
        "http://server:4200/api": api,
        "s3://bucket/": "s3://machines/",
    }
    for place, here in places.items():
        script = script.replace(place, here)
    *before, last = script.splitlines()
    return ["bash", "-ec", "\n".join([*before, f"exec {last} {shlex.join(more)}"])]


@contextmanager
def site(folder: Path, trial: Trial) -> Generator[Site]:
    """Have all servers, and no machine yet."""
    # Listing while others delete is an error in moto, as in S3 now and then; the client asks again.
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        provider = stack.enter_context(OpenAIServer(latency=trial.latency))
        store = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        store.start()
        stack.callback(store.stop)
        bucket = {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret-of-a-test",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:{1}".format(*store.get_host_and_port()),
        }
        os.environ.update(bucket)  # for what this process looks at
        database = stack.enter_context(postgres(folder))
        api = stack.enter_context(_prefect(folder, database))
        kept = {name: value for name, value in os.environ.items() if name != "BATCH_LLM_HOME"}
        environment = (
            kept
            | bucket
            | {
                "PATH": f"{BIN}:{os.environ['PATH']}",
                "PREFECT_API_URL": api,
                "PREFECT_HOME": str(folder / "user"),
                "PWD": str(folder),
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                "DO_NOT_TRACK": "1",
                "OPENAI_BASE_URL": provider.base_url,
                "OPENAI_API_KEY": "test-key-that-is-no-secret",
            }
        )
        files: Any = fsspec.filesystem("s3")  # pyright: ignore[reportUnknownMemberType]
        files.mkdir("machines")
        lines = (json.dumps({"id": f"d{number}", "text": f"document {number}"}) for number in range(trial.items))
        files.pipe_file("machines/docs.jsonl", "".join(f"{line}\n" for line in lines).encode())
        made = Site(folder, trial, provider, environment)
        stack.callback(made.close)
        yield made


@contextmanager
def _prefect(folder: Path, database: str) -> Generator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    own = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PREFECT_HOME": str(folder / "server"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            typed(TO_SERVE, "--port", str(port), database=database),
            env={**os.environ, **own},
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: healthy(f"http://127.0.0.1:{port}/api"))
        yield f"http://127.0.0.1:{port}/api"
    finally:
        server.terminate()
        server.wait(30)


def until(probe: Callable[[], T]) -> T:
    """Ask until the answer is true."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := probe()):
        if time.monotonic() > end:
            raise TimeoutError(f"nothing came of it: {probe}")
        time.sleep(0.1)
    return found


def attempt(made: Site, say: Callable[[str], None]) -> list[Bound]:
    """Start the machines and the run, lose one that carries shards for it, and look at what there is."""
    trial = made.trial
    for machine in MACHINES:
        made.start(machine)
    more = {name: value for name, value in made.job.items() if f"-p {name}=" not in TO_RUN}
    settings = [part for name, value in more.items() for part in ("-p", f"{name}={json.dumps(value)}")]
    run = subprocess.Popen(
        typed(TO_RUN, *settings, "--watch"),
        cwd=made.folder,
        env=made.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    first = until(lambda: next((machine for machine, count in made.carriers().items() if count), ""))
    until(lambda: all(made.carriers().values()))
    say(f"{first} has the run; all three machines carry its shards")
    victim = next(machine for machine in MACHINES if machine != first)
    until(lambda: _claimers(made) == len(MACHINES))
    before = made.provider.requests
    made.signal(victim, signal.Signals[f"SIG{trial.cut}"])
    lost = made.provider.requests - _records(made)
    say(f"{victim} is gone after {before:,} calls")
    if trial.cut == "STOP":
        until(lambda: _takeovers(made))
        made.signal(victim, signal.SIGCONT)
        say(f"{victim} is back, and finds its shard taken")
    said, _ = run.communicate(timeout=PATIENCE_SECONDS)
    say(said.strip().splitlines()[-1])
    rows = [json.loads(line) for line in (made.folder / "out.jsonl").read_text().splitlines()]
    right = sum(row["status"] == "succeeded" for row in rows)
    twice = made.provider.requests - trial.items
    each = trial.workers // len(MACHINES)
    return [
        Bound("each item has its answer", f"{right:,} of {trial.items:,}", right == len(rows) == trial.items),
        Bound("the run completed", said.strip().splitlines()[-1][-60:], run.returncode == 0),
        Bound(f"calls made twice: at most the {each} in flight at the cut", f"{twice} ({lost})", 0 <= twice <= each),
    ]


def _claimers(made: Site) -> int:
    store = job_store(BatchJob.parse(made.job))
    return len({json.loads(store.read(name) or b"{}").get("carrier") for name in store.names("*/claims/*.json")})


def _takeovers(made: Site) -> bool:
    return bool(job_store(BatchJob.parse(made.job)).names("*/claims/*.000002.json"))


def _records(made: Site) -> int:
    store = job_store(BatchJob.parse(made.job))
    return sum(1 for name in record_files(store) for _ in objects_in((store.read(name) or b"").splitlines()))


def _environ(process: int) -> list[bytes]:
    try:
        return Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:  # it is gone
        return []


def main() -> int:
    """Lose a machine, print what came of it and the bounds, return the exit code."""
    parser = argparse.ArgumentParser(description="Lose one of three machines in the middle of a run.")
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--workers", type=int, default=9)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--cut", choices=["KILL", "STOP"], default="STOP")
    options = parser.parse_args()
    if reason := missing():
        print(reason)
        return 2
    trial = Trial(options.items, options.workers, options.cut, options.latency)
    with tempfile.TemporaryDirectory(prefix="batch-llm-machines-") as name, site(Path(name), trial) as made:
        return judge(attempt(made, lambda line: print(line, flush=True)))


if __name__ == "__main__":
    raise SystemExit(main())
