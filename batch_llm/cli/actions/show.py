"""Action of `batch-llm show`: print what a preset would send, without calls or a server."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from batch_llm.cli.presets import Preset
from batch_llm.cli.terminal.screen import Screen, print_json
from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob, setting_warnings, source_warnings
from batch_llm.jobs.models.factory import check_model
from batch_llm.jobs.planning.preview import Preview, preview
from batch_llm.jobs.storage.json_files import to_json


def show(preset: Preset, job: BatchJob, *, for_program: bool) -> int:
    """Print a job and the first prompt that it would send."""
    found = preview(job)
    problem = _model_problem(job)
    warnings = [*source_warnings(job), *_setting_warnings(job)]
    if for_program:
        print_json(_as_json(preset, job, found) | {"problem": problem, "warnings": warnings})
        return 0
    screen = Screen()
    screen.out.print(f"{preset.name}: {_description(preset)}".rstrip(": "), style="bold", markup=False)
    screen.print()
    for name, value in _facts(job, found).items():
        if value:
            screen.print(f"{name:>9}  {value}")
    for warning in warnings:
        screen.print(f"  Warning  {warning}")
    shape = json.dumps(job.output_schema, indent=2, ensure_ascii=False) if job.output_schema else "plain text"
    texts = {"instructions": job.instructions, f"prompt of {found.item.id}": found.item.prompt or "", "answer": shape}
    for title, text in texts.items():
        if text:
            _print_text(screen, title, text)
    if found.item.error:
        screen.print(f"\nThe first row cannot be sent: {found.item.error}")
    if problem:
        screen.print(f"\nBefore it can run: {problem}")
    return 0


def _description(preset: Preset) -> str:
    return str(preset.block.get("description") or "")


def _facts(job: BatchJob, found: Preview) -> dict[str, str]:
    items = "" if found.items is None else f", {found.items:,} item{'s' if found.items != 1 else ''}"
    settings = f" {to_json(job.model_settings)}" if job.model_settings else ""
    return {
        "model": f"{job.model}{settings}",
        "source": f"{job.source}{items}",
        "output": job.output,
        "context": "sent once and cached at the provider" if job.cached_context else "",
    }


def _print_text(screen: Screen, title: str, text: str) -> None:
    screen.print()
    screen.out.print(title, style="bold", markup=False)
    for line in text.splitlines():
        screen.print(f"  {line}")


def _model_problem(job: BatchJob) -> str:
    try:
        check_model(job)
    except JobError as error:
        return str(error)
    return ""


def _setting_warnings(job: BatchJob) -> tuple[str, ...]:
    try:
        return setting_warnings(job)
    except JobError:  # reported as the model's problem
        return ()


def _as_json(preset: Preset, job: BatchJob, found: Preview) -> dict[str, Any]:
    named = ("model", "model_settings", "source", "output", "instructions", "output_schema")
    item = asdict(found.item)
    return {
        "preset": preset.name,
        **{name: getattr(job, name) for name in named},
        "items": found.items,
        "first": {name: item[name] for name in ("id", "prompt", "error")},
    }
