"""Action of `batch-llm run`: start a flow run of a preset with the user's settings, and watch it to the end."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect.client.schemas.objects import State

from batch_llm.cli.presets import Preset
from batch_llm.cli.terminal.connection import Connection, connected
from batch_llm.cli.terminal.interrupts import Interrupts
from batch_llm.cli.terminal.report import MOST_ROWS, RunOutcome, as_json, print_outcome
from batch_llm.cli.terminal.screen import Screen, shell
from batch_llm.jobs import BatchJob, Summary, resolve, result_rows
from batch_llm.jobs.messages import run_sentence
from batch_llm.jobs.secrets import KeyMissing
from batch_llm.jobs.untrusted_text import visible_json
from batch_llm.prefect import api
from batch_llm.prefect.deployment import deployments, local_server
from batch_llm.prefect.secrets import provide_key

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
        missing: API key that the environment lacks; a Secret block may hold it.
    """

    preset: Preset
    parameters: Mapping[str, Any]
    screen: Screen
    command: str
    next_step: str = ""
    missing: KeyMissing | None = None


def run(order: RunRequest) -> int:
    """Run a flow from start to report; return the exit code of the command.

    Raises:
        KeyMissing: Neither the environment nor a Secret block has the model's key.
    """
    screen = order.screen
    if order.missing and not (api.configured_url() or local_server.running()):
        raise order.missing
    try:
        with Interrupts.caught() as interrupts, connected(interrupts, screen) as connection:
            return _run(order, screen, interrupts, connection)
    except KeyboardInterrupt:
        screen.print("Stopped. Run the same command to continue; finished items are not charged again.")
        return INTERRUPTED


def _run(order: RunRequest, screen: Screen, interrupts: Interrupts, connection: Connection) -> int:
    connection.wait()
    if order.missing and not provide_key(BatchJob.parse(order.parameters)):
        raise order.missing
    with screen.phase("Registering the deployment"):
        deployment_id = deployments.ensure_deployment(order.preset.block)
    flow_run = CliFlowRun(interrupts, screen)
    flow_run.start(deployment_id, order.preset, order.parameters)
    state = flow_run.watch()
    summary = read_summary(flow_run)
    if summary is None:
        return _report_without_summary(screen, state, flow_run)
    _report(order, screen, flow_run, summary)
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


def _report(order: RunRequest, screen: Screen, flow_run: CliFlowRun, summary: Summary) -> None:
    rows = result_rows(flow_run.job, str(flow_run.folder.path), MOST_ROWS).results
    outcome = RunOutcome(summary, rows, flow_run.url)
    if screen.for_program:
        screen.print(f"{run_sentence(summary)}.")
        for warning in summary.warnings:
            screen.print(f"Warning: {warning}.")
        print(visible_json(as_json(outcome)), flush=True)
    else:
        print_outcome(screen, outcome)


def _report_without_summary(screen: Screen, state: State[Any], flow_run: CliFlowRun) -> int:
    """Print why a run has no results: it could not start, or its process failed; return the exit code."""
    could_not_begin = state.is_failed() and not flow_run.folder.plan.exists()
    message = api.one_line(state.message or state.name or "the run ended")
    screen.error.print(f"batch-llm: {message}", markup=False, soft_wrap=True)
    if could_not_begin and not message.startswith("Flow run encountered an exception"):
        return BAD_INPUT
    screen.error.print(f"batch-llm: see the run's log: {flow_run.log}", markup=False, soft_wrap=True)
    return FAILED


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
