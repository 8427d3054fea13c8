"""Presets, read as plain data: blocks of `deployments/prefect.yaml`, and of the user's own `batch-llm.yaml`."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from batch_llm.errors import JobError
from batch_llm.jobs import home, project_folder

WIDE = 100
"""Columns from which on there is room for descriptions; `batch-llm show` has them at any width."""


@dataclass(frozen=True, slots=True)
class Preset:
    """One block of the file.

    Attributes:
        name: What the command and the deployment are called by.
        parameters: What it sets of a job.
        block: The whole block, as Prefect reads it.
        file: Where it stands.
    """

    name: str
    parameters: dict[str, Any]
    block: dict[str, Any]
    file: Path

    @property
    def schedule(self) -> str:
        """When it runs by itself, or nothing."""
        return ", ".join(_schedule(schedule) for schedule in self.block.get("schedules") or ())


def presets_file() -> Path:
    """Return the file that holds the presets that we ship."""
    return project_folder() / "deployments" / "prefect.yaml"


def own_file() -> Path:
    """Return the file for the user's own presets: `batch-llm.yaml` beside the data, for an update replaces ours.

    Who works in a checkout of ours has it at hand, with its history.
    """
    return presets_file() if home().resolve() == project_folder() else home() / "batch-llm.yaml"


def read_presets() -> dict[str, Preset]:
    """Return all presets by name, ours before the user's own, in their files' order; of two of a name, the user's.

    Raises:
        JobError: A file cannot be read as presets.
    """
    own = own_file()
    return read_file(presets_file()) | (read_file(own) if own.exists() else {})


def read_file(file: Path) -> dict[str, Preset]:
    """Return the presets of one file.

    Raises:
        JobError: The file cannot be read as presets.
    """
    try:
        found: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        blocks: list[dict[str, Any]] = found["deployments"] or []
        presets = [_preset(block, file) for block in blocks]
    except OSError as error:
        raise JobError(f"the presets cannot be read: {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise JobError(f"{file} is no text in UTF-8: save it as such") from error
    except yaml.YAMLError as error:
        raise JobError(f"{file} is no YAML: {' '.join(str(error).split())}") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise JobError(f"{file} must have a list `deployments`, and each block in it a `name`") from error
    names = [preset.name for preset in presets]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise JobError(f"{file} has more than one preset called {twice!r}: rename all but one")
    return dict(zip(names, presets, strict=True))


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


def _preset(block: dict[str, Any], file: Path) -> Preset:
    parameters: dict[str, Any] = dict(block.get("parameters") or {})
    for name, value in parameters.items():
        if isinstance(value, dict) and "__prefect_kind" in value:
            raise JobError(
                f"{file}: {name} of preset {block['name']!r} is a placeholder, which Prefect fills for runs and for "
                f"no deployment: name it in `prefect deployment run --params`, or have the Variable batch_llm_settings "
                f"set {name} for all runs"
            )
    return Preset(str(block["name"]), parameters, block, file)


def _schedule(schedule: dict[str, Any]) -> str:
    when = str(schedule.get("cron") or schedule.get("rrule") or f"every {schedule.get('interval')} s")
    zone = f" {schedule['timezone']}" if schedule.get("timezone") else ""
    return f"{when}{zone}" + ("" if schedule.get("active", True) else " (off)")


def print_presets() -> None:
    """Write one line a preset."""
    from rich.table import Table

    from .terminal.screen import Screen, shell

    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("preset", "model", "source", "schedule"):
        table.add_column(title, no_wrap=True)
    screen = Screen()
    is_wide = screen.out.width >= WIDE
    if is_wide:
        table.add_column("")
    presets = read_presets().values()
    for preset in presets:
        shown = [str(preset.parameters.get(name, "")) for name in ("model", "source")]
        described = [str(preset.block.get("description", ""))] if is_wide else []
        table.add_row(preset.name, *shown, preset.schedule, *described)
    screen.out.print(table)
    files = dict.fromkeys(str(preset.file) for preset in presets)
    screen.print(f"\nThey are blocks of {' and '.join(files)}")
    screen.print(f"`{shell('batch-llm new NAME')}` writes one, `{shell('batch-llm show NAME')}` shows what it sends.")
