"""A flow run that the command creates, starts in a process of its own, watches and stops cleanly on Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Crashed

from batch_llm.cli.presets import Preset
from batch_llm.cli.terminal.interrupts import Interrupts
from batch_llm.cli.terminal.live import View
from batch_llm.cli.terminal.screen import Screen
from batch_llm.errors import BatchLLMError
from batch_llm.jobs import BatchJob, RunFolder, read_progress, request_stop, run_folder
from batch_llm.jobs.ledger.run_folder import prepare_ledger
from batch_llm.prefect.api import ServerUnavailable
from batch_llm.prefect.deployment import deployments

from .flow_process import FlowProcess

POLL_SECONDS = 0.5
CANCEL_POLL_SECONDS = 3.0
"""Seconds between two checks on the server for a cancellation."""

SERVER_OUTAGE_SECONDS = 60.0
"""Seconds to wait for an unreachable server after the run has finished."""

GRACE_SECONDS = 20.0
"""Seconds for a stopping run: half for calls in flight, the rest for writing results."""


class CliFlowRun:
    """One flow run from its creation to its final state.

    Attributes:
        job: The job, as the server stores its parameters.
        folder: The run's folder.
        url: Address of the run's page in the UI.
    """

    job: BatchJob
    folder: RunFolder
    url: str

    def __init__(self, interrupts: Interrupts, screen: Screen) -> None:
        self._interrupts = interrupts
        self._screen = screen
        self._run_id: UUID | None = None
        self._process: FlowProcess | None = None

    @property
    def log(self) -> Path:
        """Path of the log of the run's process."""
        return self.folder.path / "flow.log"

    def start(self, deployment_id: UUID, preset: Preset, parameters: Mapping[str, Any]) -> None:
        """Create the flow run and start its process."""
        try:
            with self._interrupts.held():
                created = deployments.create_run(deployment_id, parameters)
                self._run_id = created.id
                self.url = deployments.run_url(created.id)
                self.job = BatchJob.parse(created.parameters)
                self.folder = run_folder(self.job, str(created.id))
                entrypoint = deployments.flow_entrypoint(preset.block)
                prepare_ledger(self.job, self.folder.runs)
                self._process = FlowProcess(str(created.id), entrypoint, self.log)
        except BaseException:
            self._interrupt()
            raise
        self._screen.print(f"Run: {self.url}")
        self._screen.print(f"Ledger: {self.folder.runs.address}")

    def watch(self) -> State[Any]:
        """Show the progress until the run finishes; return its final state."""
        with View(self._screen, self.job.name) as view:
            try:
                self._show_until_end(view)
            except KeyboardInterrupt:
                view.stopping = True
                state = self._interrupt(view)
                self._screen.print(f"{state.message}." if state else "")
                raise
        code = self._process.exit_code if self._process else None
        return self._set_final_state_patiently(Crashed(message=f"the run's process exited with code {code}"))

    def _show_until_end(self, view: View, *, seconds: float = float("inf")) -> None:
        end = time.monotonic() + seconds
        look = time.monotonic() + CANCEL_POLL_SECONDS
        while self._process and not self._process.wait(POLL_SECONDS) and time.monotonic() < end:
            view.show(read_progress(self.folder.path))
            if time.monotonic() > look:
                self._stop_if_cancelled()
                look = time.monotonic() + CANCEL_POLL_SECONDS

    def _stop_if_cancelled(self) -> None:
        """Stop gracefully after Cancel in the UI: this run has no worker that would do it."""
        with suppress(BatchLLMError):  # an unreachable server cancels nothing
            if self._run_id and self.folder.plan.exists() and deployments.is_cancelling(self._run_id):
                request_stop(self.folder.path, "cancellation in the UI")

    def _interrupt(self, view: View | None = None) -> State[Any] | None:
        process = self._process
        if process:
            self._interrupts.end(lambda: self._stop(process, view), process.kill)
        if self._run_id:
            with suppress(BatchLLMError):  # the server may have exited first
                return self._set_final_state(Cancelled(message="Stopped by Ctrl-C"))
        return None

    def _stop(self, process: FlowProcess, view: View | None) -> None:
        if view and self.folder.plan.exists():  # without a plan, no call is in flight
            request_stop(self.folder.path, "Ctrl-C")
            self._show_until_end(view, seconds=GRACE_SECONDS)
        process.end()

    def _set_final_state_patiently(self, state: State[Any]) -> State[Any]:
        """Set the final state; retry for a while when the server is unreachable."""
        end = time.monotonic() + SERVER_OUTAGE_SECONDS
        while True:
            try:
                return self._set_final_state(state)
            except ServerUnavailable:
                if time.monotonic() > end:
                    raise
                time.sleep(CANCEL_POLL_SECONDS)

    def _set_final_state(self, state: State[Any]) -> State[Any]:
        assert self._run_id is not None
        return deployments.set_final_state(self._run_id, state)
