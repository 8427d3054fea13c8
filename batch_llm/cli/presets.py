"""Presets: the deployments of `deployments/prefect.yaml`, read as plain data."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from batch_llm.errors import JobError
from batch_llm.jobs import project_folder


@dataclass(frozen=True, slots=True)
class Preset:
    """One block of the file.

    Attributes:
        name: What the command and the deployment are called by.
        parameters: What it sets of a job.
        block: The whole block, as Prefect reads it.
    """

    name: str
    parameters: dict[str, Any]
    block: dict[str, Any]

    @property
    def schedule(self) -> str:
        """When it runs by itself, or nothing."""
        return ", ".join(_schedule(schedule) for schedule in self.block.get("schedules") or ())


def presets_file() -> Path:
    """Return the file that holds the presets."""
    return project_folder() / "deployments" / "prefect.yaml"


def read_presets(file: Path | None = None) -> dict[str, Preset]:
    """Return all presets by name, in the file's order.

    Raises:
        JobError: The file cannot be read as presets.
    """
    file = file or presets_file()
    try:
        found: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        blocks: list[dict[str, Any]] = found["deployments"]
        return {str(block["name"]): _preset(block) for block in blocks}
    except OSError as error:
        raise JobError(f"the presets cannot be read: {file}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise JobError(f"{file} is no YAML: {' '.join(str(error).split())}") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise JobError(f"{file} must have a list `deployments`, and each block in it a `name`") from error


def find_preset(name: str) -> Preset:
    """Return the preset of this name.

    Raises:
        JobError: There is none; says which there are.
    """
    presets = read_presets()
    if name in presets:
        return presets[name]
    near = difflib.get_close_matches(name, presets, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise JobError(f"no preset is called {name!r}: {hint}there are {', '.join(presets)}")


def _preset(block: dict[str, Any]) -> Preset:
    return Preset(name=str(block["name"]), parameters=dict(block.get("parameters") or {}), block=block)


def _schedule(schedule: dict[str, Any]) -> str:
    when = str(schedule.get("cron") or schedule.get("rrule") or f"every {schedule.get('interval')} s")
    zone = f" {schedule['timezone']}" if schedule.get("timezone") else ""
    return f"{when}{zone}" + ("" if schedule.get("active", True) else " (off)")


def print_presets() -> None:
    """Write one line a preset."""
    from rich.table import Table

    from .screen import Screen

    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("preset", "model", "source", "schedule"):
        table.add_column(title, no_wrap=True)
    table.add_column("")
    for preset in read_presets().values():
        shown = [str(preset.parameters.get(name, "")) for name in ("model", "source")]
        table.add_row(preset.name, *shown, preset.schedule, str(preset.block.get("description", "")))
    screen = Screen()
    screen.out.print(table)
    screen.say(f"\nThey are blocks of {presets_file()}")
