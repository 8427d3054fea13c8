"""Flow runs of served deployments and workers, started, inspected and ended from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.support.prefect_server import eventually

BIN = Path(sys.executable).parent


def user_environment(folder: Path, prefect_api: str, **more: str) -> dict[str, str]:
    """Return a user's variables: keys, servers and folder, without the settings of this process."""
    kept = {name: value for name, value in os.environ.items() if name != "BATCH_LLM_HOME"}
    return {**kept, "PREFECT_API_URL": prefect_api, "PWD": str(folder), **more}


def run(*command: str, env: dict[str, str], cwd: Path, timeout: float = 180) -> str:
    """Run a command, wait for its end, and return its output."""
    command = (str(BIN / command[0]), *command[1:])
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def background(*command: str, env: dict[str, str], cwd: Path) -> Generator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a command until the block ends; yields its process and its log."""
    log = cwd / f"{command[0]}.log"
    with log.open("a") as output:
        process = subprocess.Popen(
            [str(BIN / command[0]), *command[1:]], env=env, cwd=cwd, stdout=output, stderr=output
        )
    try:
        yield process, log
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@contextmanager
def serving(env: dict[str, str], cwd: Path) -> Generator[tuple[subprocess.Popen[bytes], Path]]:
    """Serve all presets until the block ends; yields the process, and the log of it and of its runs."""
    started = datetime.now(UTC)
    with background("batch-llm", "serve", env=env, cwd=cwd) as served:
        eventually(lambda: _registered_at("batch-llm/summarize") > started, seconds=90)
        yield served


def _registered_at(deployment: str) -> datetime:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            return client.read_deployment_by_name(deployment).updated or datetime.min.replace(tzinfo=UTC)
        except ObjectNotFound:
            return datetime.min.replace(tzinfo=UTC)


class DeployedRun:
    """Flow run of a deployment, accessed through Prefect's API."""

    def __init__(self, deployment: str = "batch-llm/summarize", **parameters: Any) -> None:
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            found = client.read_deployment_by_name(deployment)
            self.id = client.create_flow_run_from_deployment(found.id, parameters=parameters).id

    @classmethod
    def known(cls, run_id: str) -> DeployedRun:
        """Return a run that already exists."""
        found = cls.__new__(cls)
        found.id = UUID(run_id)
        return found

    @property
    def state(self) -> Any:
        """The run's current state."""
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            return client.read_flow_run(self.id).state

    def cancel(self) -> None:
        """Cancel the run as the UI does."""
        self._set({"type": "CANCELLING", "name": "Cancelling", "message": "Cancelled from the UI"})

    def retry(self) -> None:
        """Retry the run as the UI does."""
        self._set({"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"})

    def end(self, *, seconds: float = 90) -> Any:
        """Wait until the run and its processes have ended, and return its last state."""
        eventually(lambda: self.state.is_final() and not self.processes(), seconds=seconds)
        return self.state

    def processes(self) -> list[int]:
        """Return the ids of the run's processes."""
        mark = f"PREFECT__FLOW_RUN_ID={self.id}".encode()
        return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and mark in _environ(path)]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the run's process."""
        (process,) = self.processes()
        os.kill(process, number)

    def _set(self, state: dict[str, str]) -> None:
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            body = {"state": state, "force": False}
            client._client.post(f"/flow_runs/{self.id}/set_state", json=body)  # pyright: ignore[reportPrivateUsage]  as the UI


def _environ(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:  # it is gone, or another user's
        return b""
