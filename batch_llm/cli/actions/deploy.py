"""Actions of `batch-llm automations`, `deploy` and `serve`."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from batch_llm.cli.overrides import check_length
from batch_llm.cli.presets import Preset, find_preset, read_presets
from batch_llm.cli.terminal.connection import connected
from batch_llm.cli.terminal.interrupts import Interrupts
from batch_llm.cli.terminal.screen import Screen, shell
from batch_llm.errors import BatchLLMError, JobError
from batch_llm.jobs import home, project_folder
from batch_llm.jobs.storage.scratch import temporary_folder
from batch_llm.prefect.api import one_line
from batch_llm.prefect.deployment import automations, deployments
from batch_llm.prefect.deployment.serving import serve_until_signal

_ERROR = re.compile(r"(?:[\w.]*(?:Error|Exception)|\d+ validation errors? for)\b")
"""First line of an error at the end of a traceback."""

_LAST_LINES = 3


def install(notify: str | None) -> int:
    """Install the automations of `deployments/automations.yaml` on the Prefect server.

    Args:
        notify: Block that sends notifications, as type/name; None to skip the automations that need one.

    Raises:
        BatchLLMError: The block does not exist, or cannot send notifications.
    """
    screen = Screen()
    blocks = automations.read_automations()
    with Interrupts.caught() as interrupts, connected(interrupts, screen) as connection:
        connection.wait()
        installed = automations.install(blocks, notify)
    for block in blocks:
        if block["name"] in installed:
            screen.print(f"Installed    {block['name']}")
        else:
            screen.print(f"Skipped      {block['name']}: it needs a notification block")
    if len(installed) < len(blocks):
        screen.print("To get notifications, create a block in the UI under Blocks (a Slack Webhook, ...), then run:")
        screen.print(f"  {shell('batch-llm automations')} --notify slack-webhook/NAME")
    return 0


def deploy(presets: Sequence[str], pool: str | None) -> int:
    """Deploy presets to a work pool.

    Raises:
        BatchLLMError: A preset cannot be deployed, or `prefect deploy` failed; the message has the cause.
    """
    screen = Screen()
    chosen = [find_preset(name) for name in presets] or [preset.with_files_read() for preset in read_presets().values()]
    for preset in chosen:
        check_length(preset.parameters)
        _check_block(preset)
    pools = {pool} if pool else {str(preset.block["work_pool"]["name"]) for preset in chosen}
    with Interrupts.caught() as interrupts, connected(interrupts, screen) as connection:
        connection.wait()
        for name in sorted(pools):
            if deployments.ensure_work_pool(name):
                screen.print(f"Created the process work pool {name}")
        names = [preset.name for preset in chosen]
        with screen.phase(f"Deploying {', '.join(names)}"):
            for source in dict.fromkeys(preset.file for preset in chosen):
                of_file = {preset.name: preset for preset in chosen if preset.file == source}
                with file_for(source, of_file, pool) as file:
                    _prefect_deploy(file, list(of_file))
        _warn_of_schedules(screen, chosen)
    screen.print(f"Deployed {', '.join(f'{deployments.FLOW}/{name}' for name in names)}")
    screen.print("Next, on each machine that should run them:")
    screen.print(f"  export PREFECT_API_URL={connection.url}")
    for name in sorted(pools):
        screen.print(f"  {shell('prefect worker start')} --pool {name}")
    return 0


def _check_block(preset: Preset) -> None:
    if problem := deployments.problem_of(preset.block):
        raise JobError(f"preset {preset.name} in {preset.file} cannot be deployed: {problem}")


def _warn_of_schedules(screen: Screen, presets: Iterable[Preset]) -> None:
    for preset in presets:
        name = f"{deployments.FLOW}/{preset.name}"
        for schedule, schedule_id in deployments.leftover_schedules(preset.block):
            screen.print(
                f"Warning: {name} is still scheduled at the server ({schedule}), but not in its preset. To stop it:"
            )
            screen.print(f"  {shell('prefect deployment schedule delete')} -y {name} {schedule_id}")


@contextmanager
def file_for(source: Path, presets: Mapping[str, Preset], pool: str | None) -> Generator[Path]:
    """Yield the file, or a copy with another pool and with the content of `@file`, which a worker does not have.

    Args:
        source: A file of presets.
        presets: Presets of the file that are deployed, by name.
        pool: Name of another pool, because Prefect ignores `--pool` for several deployments; None for the presets' own.
    """
    content: dict[str, Any] = yaml.safe_load(source.read_text(encoding="utf-8"))
    is_changed = pool is not None
    for block in content["deployments"]:
        if pool is not None:
            block["work_pool"] = {**block.get("work_pool", {}), "name": pool}
        if (preset := presets.get(block["name"])) and preset.parameters != (block.get("parameters") or {}):
            block["parameters"] = preset.parameters
            is_changed = True
    if not is_changed:
        yield source
        return
    with temporary_folder() as folder:
        file = folder / "prefect.yaml"
        file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
        yield file


def _prefect_deploy(file: Path, names: Sequence[str]) -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--prefect-file", str(file)]
    for name in names:
        command += ["--name", name]
    done = subprocess.run(command, cwd=project_folder(), capture_output=True, text=True, check=False)
    if done.returncode:
        full = f"cd {shlex.quote(str(project_folder()))} && {shlex.join(command)}"
        raise BatchLLMError(
            f"`prefect deploy` failed: {cause_of(done.stdout + done.stderr)}. For the full output: {full}"
        )


def cause_of(output: str) -> str:
    """Return the cause from the output of `prefect deploy`: the error of a traceback with its details, else the end."""
    lines = [line.strip() for line in output.splitlines()]
    lines = [line for line in lines if line and not line.startswith("For further information visit")]
    errors = [number for number, line in enumerate(lines) if _ERROR.match(line)]
    cause = " ".join(lines[errors[-1] :] if errors else lines[-_LAST_LINES:])
    return one_line(re.sub(r"^[\w.]+\.(?=\w+Error)", "", cause))


def serve() -> int:
    """Serve all presets until Ctrl-C."""
    screen = Screen()
    presets = [preset.with_files_read() for preset in read_presets().values()]
    for preset in presets:
        check_length(preset.parameters)
        _check_block(preset)
    blocks = [preset.block for preset in presets]
    os.environ.setdefault("BATCH_LLM_HOME", str(home()))  # Prefect may run flows in a different folder
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")
    with Interrupts.caught() as interrupts, connected(interrupts, screen) as connection:
        connection.wait()
        screen.print("Registering the deployments ...")
        served = [deployments.deployment_to_serve(block) for block in blocks]
        serve_until_signal(served, partial(_print_served, screen, connection.url, presets))
        connection.end()
    return 0


def _print_served(screen: Screen, url: str, presets: Sequence[Preset]) -> None:
    screen.print(f"Serving {', '.join(preset.name for preset in presets)}. Press Ctrl-C to stop.")
    _warn_of_schedules(screen, presets)
    screen.print(f"Prefect UI: {url.removesuffix('/api')}")
    screen.print("Start a run in the UI, or from another terminal:")
    screen.print(f"  export PREFECT_API_URL={url}")
    screen.print(f"  {shell('prefect deployment run')} {deployments.FLOW}/{presets[0].name} --watch")
