"""Action of `batch-llm run`: start a flow run of a preset with the user's settings, and watch it to the end."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch_llm.cli.presets import Preset
from batch_llm.cli.terminal.connection import Connection, connected
from batch_llm.cli.terminal.interrupts import Interrupts
from batch_llm.cli.terminal.report import MOST_ROWS, RunOutcome, as_json, print_outcome
from batch_llm.cli.terminal.screen import Screen, print_json, shell
from batch_llm.jobs import BatchJob, Summary, resolve, result_rows
from batch_llm.jobs.messages import run_sentence
from batch_llm.jobs.results.runs import final_state
from batch_llm.jobs.secrets import KeyMissing
from batch_llm.jobs.untrusted_text import visible_json
from batch_llm.prefect.deployment import local_server
from batch_llm.prefect.flow_channel import FlowState
from batch_llm.prefect.server_errors import one_line

from .flow_process import FlowProcess, RemoteSettings
from .flow_run import CliFlowRun

COMPLETED, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run that the user requested.

    Attributes:
        preset: Preset, whose name is that of the deployment.
        parameters: Settings of the preset and the user together, with absolute paths.
        screen: Output; for a program, one JSON object on standard output and no report.
        command: Command that repeats the run.
        next_step: Command to suggest after a completed run.
    """

    preset: Preset
    parameters: Mapping[str, Any]
    screen: Screen
    command: str
    next_step: str = ""


def run(order: RunRequest, process: FlowProcess) -> int:
    """Run a flow from start to report; return the exit code of the command.

    Args:
        order: The run.
        process: The process that will run the flow.

    Raises:
        JobError: The model cannot be used.
        KeyMissing: Neither the environment nor a Secret block has the model's key.
    """
    screen = order.screen
    try:
        with Interrupts.caught() as interrupts:
            with screen.phase("Loading Prefect"):
                found = process.request("check", parameters=dict(order.parameters))
            prefect = RemoteSettings(process, found["url"], Path(found["home"]))
            if (missing := found["missing"]) and not (prefect.url or local_server.running(prefect.home)):
                raise KeyMissing(missing)
            with connected(interrupts, screen, prefect) as connection:
                return _run(order, CliFlowRun(interrupts, screen, process), connection, missing)
    except KeyboardInterrupt:
        screen.print("Stopped. Run the same command to continue; finished items are not charged again.")
        return INTERRUPTED


def _run(order: RunRequest, flow_run: CliFlowRun, connection: Connection, missing: str) -> int:
    """Start and watch a run; a Secret block has to provide the key of the model if `missing` is not empty."""
    screen = order.screen
    connection.wait()
    if missing and not flow_run.process.request("provide_key", parameters=dict(order.parameters)):
        raise KeyMissing(missing)
    try:
        state = flow_run.run(order.preset, order.parameters)
    except KeyboardInterrupt:
        if screen.for_program and flow_run.has_started and (summary := read_summary(flow_run)):
            _print_totals(screen, _outcome(flow_run, summary, None))
        raise
    summary = read_summary(flow_run)
    if summary is None:
        return _report_without_summary(screen, state, flow_run)
    _report(screen, _outcome(flow_run, summary, state))
    if not state.is_completed():
        screen.error.print(f"batch-llm: {state.message}", markup=False, soft_wrap=True)
        screen.print(f"      log  {flow_run.log}")
    _next_steps(order, screen, connection, summary)
    return COMPLETED if state.is_completed() else FAILED


def read_summary(flow_run: CliFlowRun) -> Summary | None:
    """Return the totals of the run, or None if it did not write them."""
    try:
        known: dict[str, Any] = json.loads(flow_run.folder.summary.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return Summary(**{name: value for name, value in known.items() if name in Summary.__dataclass_fields__})


def _outcome(flow_run: CliFlowRun, summary: Summary, state: FlowState | None) -> RunOutcome:
    rows = result_rows(flow_run.folder, MOST_ROWS).results
    message = (state and state.message) or run_sentence(summary)
    return RunOutcome(summary, rows, flow_run.url, state_name(flow_run.job, summary, state), message)


def state_name(job: BatchJob, summary: Summary, state: FlowState | None) -> str:
    """Return the state of a run as `batch-llm status` shows it.

    Args:
        job: The job.
        summary: The run's totals.
        state: The state on the server; None if it is not known.
    """
    found = final_state(summary, job.failure_threshold)
    if found == "completed" and state is not None and not state.is_completed():
        return "crashed" if state.is_crashed() else "cancelled" if state.is_cancelled() else "failed"
    return found


def _report(screen: Screen, outcome: RunOutcome) -> None:
    if screen.for_program:
        _print_totals(screen, outcome)
    else:
        print_outcome(screen, outcome)


def _print_totals(screen: Screen, outcome: RunOutcome) -> None:
    screen.print(f"{run_sentence(outcome.summary)}.")
    for warning in outcome.summary.warnings:
        screen.print(f"Warning: {warning}.")
    print(visible_json(as_json(outcome)), flush=True)


def _report_without_summary(screen: Screen, state: FlowState, flow_run: CliFlowRun) -> int:
    """Print why a run has no results: it could not start, or its process failed; return the exit code."""
    could_not_begin = state.is_failed() and not flow_run.folder.plan.exists()
    message = one_line(state.message or state.name or "the run ended")
    cannot_run = could_not_begin and not message.startswith("Flow run encountered an exception")
    screen.error.print(f"batch-llm: {message}", markup=False, soft_wrap=True)
    if not cannot_run:
        screen.error.print(f"batch-llm: see the run's log: {flow_run.log}", markup=False, soft_wrap=True)
    if screen.for_program:
        ended = {"state": "crashed" if state.is_crashed() else "failed", "flow_run_url": flow_run.url}
        print_json({"error" if cannot_run else "message": message, **ended})
    return BAD_INPUT if cannot_run else FAILED


def _next_steps(order: RunRequest, screen: Screen, connection: Connection, summary: Summary) -> None:
    screen.print()
    for line in next_steps(order, summary):
        screen.print(line)
    if not connection.named:
        screen.print(f"The Prefect server keeps running; stop it with: {shell('batch-llm server stop')}")
        screen.print(f"For the `prefect` command: export PREFECT_API_URL={connection.url}")


def next_steps(order: RunRequest, summary: Summary) -> list[str]:
    """Return the commands to suggest after a run, one a line."""
    again = shell(order.command)
    for budget in summary.budgets:
        if summary.stopped.startswith(f"{budget['setting']} of "):
            return [f"To continue (finished items are not charged again), raise {budget['setting']}: {again}"]
    if summary.stopped or summary.not_attempted:
        return [f"To continue (finished items are not charged again): {again}"]
    if summary.truncated:
        where = shlex.quote("finish_reason = 'length'")
        lines = [f"To see the truncated answers: {_results_command(order)} --where {where}"]
        only = again if "--only-truncated" in again else f"{again} --only-truncated"
        lines.append(f"To retry only these, raise max_tokens in model_settings: {only}")
        return lines + _after_failures(order, summary)
    return _after_failures(order, summary) or ([f"Next: {shell(order.next_step)}"] if order.next_step else [])


def _after_failures(order: RunRequest, summary: Summary) -> list[str]:
    again = shell(order.command)
    if summary.failed:
        only = again if "--only-failed" in again else f"{again} --only-failed"
        return [f"To see the failed items: {_results_command(order)}", f"To retry only these: {only}"]
    return []


def _results_command(order: RunRequest) -> str:
    settings = {"name": order.preset.name, **order.preset.parameters, **order.parameters}
    usual: str = BatchJob.model_fields["ledger"].default
    ledger = str(settings.get("ledger", usual))
    elsewhere = "" if ledger in (usual, str(resolve(usual))) else f" --ledger {shlex.quote(ledger)}"
    return shell(f"batch-llm results {settings['name']}{elsewhere}")
