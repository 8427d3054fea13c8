"""`batch-llm run`: a preset with what the user set, as a flow run of its deployment, watched to its end."""

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

from .flow_run import CarriedRun

COMPLETED, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What the user asked for.

    Attributes:
        preset: Names the deployment.
        parameters: All that the preset and the user set, with absolute paths.
        screen: For a program it has one JSON object on standard output, and no report.
        command: The command that orders the same again.
        next_step: A command to suggest after a success.
        missing: The key that the environment lacks, and a Secret block may hold.
    """

    preset: Preset
    parameters: Mapping[str, Any]
    screen: Screen
    command: str
    next_step: str = ""
    missing: KeyMissing | None = None


def run(order: RunRequest) -> int:
    """Carry a flow run from its start to the report; return the command's exit code.

    Raises:
        KeyMissing: The model's key is nowhere.
    """
    screen = order.screen
    if order.missing and not (api.configured_url() or local_server.running()):
        raise order.missing
    try:
        with Interrupts.caught() as interrupts, connected(interrupts, screen) as connection:
            return _run(order, screen, interrupts, connection)
    except KeyboardInterrupt:
        screen.print("Ended. To go on, give the same command again: what was answered is not paid again.")
        return INTERRUPTED


def _run(order: RunRequest, screen: Screen, interrupts: Interrupts, connection: Connection) -> int:
    connection.wait()
    if order.missing and not provide_key(BatchJob.parse(order.parameters)):
        raise order.missing
    with screen.phase("Registering the deployment"):
        deployment_id = deployments.ensure_deployment(order.preset.block)
    carried = CarriedRun(interrupts, screen)
    carried.start(deployment_id, order.preset, order.parameters)
    state = carried.watch()
    summary = read_summary(carried)
    if summary is None:
        return _nothing_came_of_it(screen, state, carried)
    _report(order, screen, carried, summary)
    if not state.is_completed():
        screen.error.print(f"batch-llm: {state.message}", markup=False, soft_wrap=True)
        screen.print(f"      log  {carried.log}")
    _next_steps(order, screen, connection, summary)
    return COMPLETED if state.is_completed() else FAILED


def read_summary(carried: CarriedRun) -> Summary | None:
    """Return the totals that the run left, if it came so far."""
    try:
        known: dict[str, Any] = json.loads(carried.folder.summary.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return Summary(**{name: value for name, value in known.items() if name in Summary.__dataclass_fields__})


def _report(order: RunRequest, screen: Screen, carried: CarriedRun, summary: Summary) -> None:
    rows = result_rows(carried.job, str(carried.folder.path), MOST_ROWS).results
    outcome = RunOutcome(summary, rows, carried.url)
    if screen.for_program:
        screen.print(f"{run_sentence(summary)}.")
        for warning in summary.warnings:
            screen.print(f"Warning: {warning}.")
        print(visible_json(as_json(outcome)), flush=True)
    else:
        print_outcome(screen, outcome)


def _nothing_came_of_it(screen: Screen, state: State[Any], carried: CarriedRun) -> int:
    """Tell why a run ended without results: it could not begin, or its process came to grief."""
    could_not_begin = state.is_failed() and not carried.folder.plan.exists()
    message = api.one_line(state.message or state.name or "the run ended")
    screen.error.print(f"batch-llm: {message}", markup=False, soft_wrap=True)
    if could_not_begin and not message.startswith("Flow run encountered an exception"):
        return BAD_INPUT
    screen.error.print(f"batch-llm: the run's log is {carried.log}", markup=False, soft_wrap=True)
    return FAILED


def _next_steps(order: RunRequest, screen: Screen, connection: Connection, summary: Summary) -> None:
    screen.print()
    for line in next_steps(order, summary):
        screen.print(line)
    if not connection.named:
        screen.print(f"The Prefect server keeps running; `{shell('batch-llm server stop')}` ends it.")
        screen.print(f"For the `prefect` command: export PREFECT_API_URL={connection.url}")


def next_steps(order: RunRequest, summary: Summary) -> list[str]:
    """Return what is sensible to do after a run, as commands."""
    again = shell(order.command)
    for budget in summary.budgets:
        if summary.stopped.startswith(f"{budget['setting']} of "):
            return [f"To go on, which pays for nothing that was answered, raise {budget['setting']}: {again}"]
    if summary.stopped or summary.not_attempted:
        return [f"To go on, which pays for nothing that was answered: {again}"]
    if summary.truncated:
        where = shlex.quote("finish_reason = 'length'")
        lines = [f"To look at what was cut off: {_look(order)} --where {where}"]
        only = again if "--only-truncated" in again else f"{again} --only-truncated"
        lines.append(f"To ask again for these alone, raise max_tokens in model_settings: {only}")
        return lines + _after_failures(order, summary)
    return _after_failures(order, summary) or ([f"Next: {shell(order.next_step)}"] if order.next_step else [])


def _after_failures(order: RunRequest, summary: Summary) -> list[str]:
    again = shell(order.command)
    if summary.failed:
        only = again if "--only-failed" in again else f"{again} --only-failed"
        return [f"To look at what failed: {_look(order)}", f"To try it again, and nothing else: {only}"]
    return []


def _look(order: RunRequest) -> str:
    settings = {"name": order.preset.name, **order.preset.parameters, **order.parameters}
    usual: str = BatchJob.model_fields["ledger"].default
    ledger = str(settings.get("ledger", usual))
    elsewhere = "" if ledger in (usual, str(resolve(usual))) else f" --ledger {shlex.quote(ledger)}"
    return shell(f"batch-llm results {settings['name']}{elsewhere}")
