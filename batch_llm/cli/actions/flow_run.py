"""A flow run that the command creates, starts in a process of its own, watches and stops cleanly on Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from batch_llm.cli.presets import Preset
from batch_llm.cli.terminal.interrupts import Interrupts
from batch_llm.cli.terminal.live import View
from batch_llm.cli.terminal.screen import Screen
from batch_llm.errors import BatchLLMError
from batch_llm.jobs import BatchJob, RunFolder, read_progress, request_stop, run_folder
from batch_llm.prefect.flow_channel import FlowState
from batch_llm.prefect.server_errors import ServerUnavailable

from .flow_process import FlowProcess

POLL_SECONDS = 0.5
RETRY_SECONDS = 3.0
"""Seconds between two tries to reach the server after the run has finished."""

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
        process: The process that runs the flow.
    """

    job: BatchJob
    folder: RunFolder
    url: str

    def __init__(self, interrupts: Interrupts, screen: Screen, process: FlowProcess) -> None:
        self._interrupts = interrupts
        self._screen = screen
        self.process = process
        self._run_id: UUID | None = None
        self._is_interrupted = False

    @property
    def has_started(self) -> bool:
        """Whether the run exists, so that its attributes are set."""
        return self._run_id is not None

    @property
    def log(self) -> Path:
        """Path of the log of the run's process."""
        return self.folder.path / "flow.log"

    def run(self, preset: Preset, parameters: Mapping[str, Any]) -> FlowState:
        """Register the preset, run its flow and show the progress until it finishes; return its final state."""
        try:
            self._start(preset, parameters)
            self._watch()
        except KeyboardInterrupt:
            if not self._is_interrupted:
                self._interrupt()
            raise
        if self.process.state is not None:
            return self.process.state
        reason = f"the run's process exited with code {self.process.exit_code}"
        return self._set_final_state_patiently(FlowState.crashed(reason))

    def _start(self, preset: Preset, parameters: Mapping[str, Any]) -> None:
        with self._screen.phase("Registering the deployment"), self._interrupts.held():
            created = self.process.request("create_run", block=preset.block, parameters=dict(parameters))
            self._run_id = UUID(created["id"])
            self.url = created["url"]
            self.job = BatchJob.parse(created["parameters"])
            self.folder = run_folder(self.job, created["id"])
        self._screen.print(f"Run: {self.url}")
        self._screen.print(f"Ledger: {self.folder.runs.address}")

    def _watch(self) -> None:
        with View(self._screen, self.job.name) as view:
            try:
                self._show_until_end(view)
            except KeyboardInterrupt:
                view.stopping = True
                state = self._interrupt(view)
                self._screen.print(f"{state.message}." if state else "")
                raise

    def _show_until_end(self, view: View, *, seconds: float = float("inf")) -> None:
        end = time.monotonic() + seconds
        view.show(read_progress(self.folder.path))
        while not self.process.wait(POLL_SECONDS) and time.monotonic() < end:
            view.show(read_progress(self.folder.path))

    def _interrupt(self, view: View | None = None) -> FlowState | None:
        self._is_interrupted = True
        self._interrupts.end(lambda: self._stop(view), self.process.kill)
        if self._run_id:
            with suppress(BatchLLMError):  # the server may have exited first
                return self._set_final_state(FlowState.cancelled("Stopped by Ctrl-C"))
        return None

    def _stop(self, view: View | None) -> None:
        if view and self.folder.plan.exists():  # without a plan, no call is in flight
            request_stop(self.folder.path, "Ctrl-C")
            self._show_until_end(view, seconds=GRACE_SECONDS)
        self.process.end()

    def _set_final_state_patiently(self, state: FlowState) -> FlowState:
        """Set the final state; retry for a while when the server is unreachable."""
        end = time.monotonic() + SERVER_OUTAGE_SECONDS
        while True:
            try:
                return self._set_final_state(state)
            except ServerUnavailable:
                if time.monotonic() > end:
                    raise
                time.sleep(RETRY_SECONDS)

    def _set_final_state(self, state: FlowState) -> FlowState:
        known = self.process.state
        if known is not None and not (known.is_crashed() and state.is_cancelled()):
            return known
        assert self._run_id is not None
        from batch_llm.prefect.deployment import deployments  # Prefect's import takes a second

        return deployments.set_final_state(self._run_id, state)
