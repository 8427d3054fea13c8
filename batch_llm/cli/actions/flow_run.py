"""A flow run that this command carries: created, started in a process of its own, watched, and cut short cleanly."""

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
from batch_llm.jobs import BatchJob, RunFolder, job_store, read_progress, request_stop, run_folder
from batch_llm.jobs.ledger.run_folder import prepare_ledger
from batch_llm.prefect.api import ServerUnavailable
from batch_llm.prefect.deployment import deployments

from .flow_process import FlowProcess

POLL_SECONDS = 0.5
LOOK_SECONDS = 3.0
"""Between two looks at the server, whether the run is to be cancelled."""

AWAY_SECONDS = 60.0
"""For a server that is away when the run has ended."""

GRACE_SECONDS = 20.0
"""For calls in flight to end, which get half of it, and results to be written, after the run was asked to stop."""


class CarriedRun:
    """One flow run from its creation to its last state.

    Attributes:
        job: What it does, as the server knows it.
        folder: Where it writes.
        url: The address of its page.
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
        """The file with all that the run's process writes."""
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
                prepare_ledger(self.job)
                self._process = FlowProcess(str(created.id), entrypoint, self.log)
        except BaseException:
            self._cut_short()
            raise
        self._screen.print(f"Run: {self.url}")
        self._screen.print(f"Ledger: {job_store(self.job).address}")

    def watch(self) -> State[Any]:
        """Show how far the run is until it ends; return its last state."""
        with View(self._screen, self.job.name) as view:
            try:
                self._show_until_end(view)
            except KeyboardInterrupt:
                view.stopping = True
                state = self._cut_short(view)
                self._screen.print(f"{state.message}." if state else "")
                raise
        code = self._process.exit_code if self._process else None
        return self._settle_patiently(Crashed(message=f"the process of the run ended with exit code {code}"))

    def _show_until_end(self, view: View, *, seconds: float = float("inf")) -> None:
        end = time.monotonic() + seconds
        look = time.monotonic() + LOOK_SECONDS
        while self._process and not self._process.wait(POLL_SECONDS) and time.monotonic() < end:
            view.show(read_progress(self.folder.path))
            if time.monotonic() > look:
                self._heed_cancellation()
                look = time.monotonic() + LOOK_SECONDS

    def _heed_cancellation(self) -> None:
        """Stop gracefully when somebody pressed Cancel in the UI: no worker does it for a run that we carry."""
        with suppress(BatchLLMError):  # a server that is away cancels nothing
            if self._run_id and self.folder.plan.exists() and deployments.is_cancelling(self._run_id):
                request_stop(self.folder.path, "cancellation in the UI")

    def _cut_short(self, view: View | None = None) -> State[Any] | None:
        process = self._process
        if process:
            self._interrupts.end(lambda: self._stop(process, view), process.kill)
        if self._run_id:
            with suppress(BatchLLMError):  # its server may have gone first
                return self._settle(Cancelled(message="Stopped by Ctrl-C"))
        return None

    def _stop(self, process: FlowProcess, view: View | None) -> None:
        if view and self.folder.plan.exists():  # before there is a plan, no call can be in flight
            request_stop(self.folder.path, "Ctrl-C")
            self._show_until_end(view, seconds=GRACE_SECONDS)
        process.end()

    def _settle_patiently(self, state: State[Any]) -> State[Any]:
        """Settle the run, also where the server, or what is between, is away for a while."""
        end = time.monotonic() + AWAY_SECONDS
        while True:
            try:
                return self._settle(state)
            except ServerUnavailable:
                if time.monotonic() > end:
                    raise
                time.sleep(LOOK_SECONDS)

    def _settle(self, state: State[Any]) -> State[Any]:
        assert self._run_id is not None
        return deployments.set_final_state(self._run_id, state)
