"""Presets: blocks of `deployments/prefect.yaml` and of the user's `batch-llm.yaml`, read as plain data."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from batch_llm.errors import JobError
from batch_llm.jobs import home, project_folder
from batch_llm.jobs.file_references import with_files_read

WIDE = 100
"""Terminal width from which descriptions are listed; `batch-llm show` prints them at any width."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A preset: one block of a presets file.

    Attributes:
        name: Name of the preset and of its deployment.
        parameters: Settings of the job.
        block: The whole YAML block, as Prefect reads it.
        file: File that defines the preset.
    """

    name: str
    parameters: dict[str, Any]
    block: dict[str, Any]
    file: Path

    @property
    def schedule(self) -> str:
        """Schedules of the preset as text; empty without one."""
        return ", ".join(_schedule(schedule) for schedule in self.block.get("schedules") or ())

    @property
    def problem(self) -> str:
        """Why the preset cannot be deployed as it is; only a preset with schedules of its own is checked."""
        if self.file == presets_file() or not any(str(key).startswith("schedule") for key in self.block):
            return ""
        from batch_llm.prefect.deployment.deployments import problem_of  # imports Prefect, which takes a second

        return problem_of(self.block)

    def with_files_read(self) -> Preset:
        """Return the preset with the content of each `@file`, whose path is relative to the preset's file.

        Raises:
            JobError: A file cannot be read.
        """
        parameters = with_files_read(self.parameters, self.file.parent)
        return replace(self, parameters=parameters, block={**self.block, "parameters": parameters})

    def as_json(self) -> dict[str, Any]:
        """Return the preset as plain data."""
        described = {"description": str(self.block.get("description") or ""), "schedule": self.schedule}
        place = {"file": str(self.file), "problem": self.problem}
        return {"name": self.name, **described, **place, "parameters": self.parameters}


def presets_file() -> Path:
    """Return the path of the presets that are part of the package."""
    return project_folder() / "deployments" / "prefect.yaml"


def own_file() -> Path:
    """Return the path of the user's presets: `batch-llm.yaml` in the current folder, which updates do not overwrite.

    In a checkout of batch-llm it is the file of the package's presets.
    """
    return presets_file() if home().resolve() == project_folder() else home() / "batch-llm.yaml"


def read_presets() -> dict[str, Preset]:
    """Return all presets by name: those of the package, then the user's, which override presets of the same name.

    Raises:
        JobError: A file is not a valid presets file.
    """
    own = own_file()
    return read_file(presets_file()) | (read_file(own) if own.exists() else {})


def read_file(file: Path) -> dict[str, Preset]:
    """Return the presets of one file.

    Raises:
        JobError: The file is not a valid presets file.
    """
    try:
        found: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        blocks: list[dict[str, Any]] = found["deployments"] or []
        presets = [_preset(block, file) for block in blocks]
    except OSError as error:
        raise JobError(f"cannot read presets from {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise JobError(f"{file} is not UTF-8 text: save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise JobError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise JobError(f"{file} must have a list `deployments`, and each block in it a `name`") from error
    names = [preset.name for preset in presets]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise JobError(f"{file} has more than one preset called {twice!r}: rename all but one")
    return dict(zip(names, presets, strict=True))


def find_preset(name: str) -> Preset:
    """Return the preset of this name, with the content of its files.

    Raises:
        JobError: There is no such preset, and the message lists the presets and the files that were read; or a file
            that the preset names cannot be read.
    """
    presets = read_presets()
    if name in presets:
        return presets[name].with_files_read()
    near = difflib.get_close_matches(name, presets, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise JobError(f"no preset is named {name!r}: {hint}presets are {', '.join(presets)} ({_searched()})")


def _searched() -> str:
    """Return which files presets were read from, and where a file of a parent folder would be read."""
    own = own_file()
    if own == presets_file():
        return f"read from {own}"
    state = "" if own.exists() else ", which does not exist"
    # Paths in a preset and the ledger are relative to the working folder, so a parent's file cannot be used from here.
    parent = next((folder for folder in home().resolve().parents if (folder / own.name).is_file()), None)
    hint = f"; to use {parent / own.name}, run the command in {parent}" if parent else ""
    return f"read from {presets_file()} and {own}{state}{hint}"


def _preset(block: dict[str, Any], file: Path) -> Preset:
    parameters: dict[str, Any] = dict(block.get("parameters") or {})
    for name, value in parameters.items():
        if isinstance(value, dict) and "__prefect_kind" in value:
            raise JobError(
                f"{file}: {name} of preset {block['name']!r} is a placeholder, which Prefect resolves for runs but "
                f"not for deployments: pass it to `prefect deployment run --params`, or set {name} for all runs in the "
                f"Variable batch_llm_settings"
            )
    return Preset(str(block["name"]), parameters, block, file)


def _schedule(schedule: dict[str, Any]) -> str:
    when = str(schedule.get("cron") or schedule.get("rrule") or f"every {schedule.get('interval')} s")
    zone = f" {schedule['timezone']}" if schedule.get("timezone") else ""
    return f"{when}{zone}" + ("" if schedule.get("active", True) else " (off)")


def print_presets(*, for_program: bool = False) -> None:
    """Print a table of the presets, one row each, or for a program a list of objects."""
    from rich.table import Table

    from .terminal.screen import Screen, print_json, shell

    if for_program:
        print_json([preset.as_json() for preset in read_presets().values()])
        return
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
    for preset in presets:
        if problem := preset.problem:
            screen.print(f"\nWarning: the preset {preset.name} in {preset.file} cannot be deployed: {problem}")
    files = dict.fromkeys(str(preset.file) for preset in presets)
    screen.print(f"\nDefined in: {' and '.join(files)}")
    screen.print(f"Create a preset: {shell('batch-llm new NAME')}. Show what it sends: {shell('batch-llm show NAME')}.")
