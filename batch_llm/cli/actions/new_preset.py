"""Action of `batch-llm new`: add a block to the presets file and keep its comments."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from batch_llm.cli.options import JobOptions
from batch_llm.cli.overrides import with_overrides
from batch_llm.cli.presets import Preset, find_preset, own_file, read_presets
from batch_llm.cli.terminal.screen import Screen, shell
from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob
from batch_llm.jobs.file_references import parse_schema, with_folder
from batch_llm.jobs.storage.paths import home, resolve

HEADER = """\
# Presets of your own for the flow `batch-llm`. `batch-llm presets` lists them, `batch-llm run NAME` runs one.
name: batch-llm

# Tells workers where the flow is.
pull:
  - batch_llm.prefect.project.pull: {}

deployments:
"""


def new(name: str, options: JobOptions, *, like: str, schema: str, description: str) -> int:
    """Write a preset and print the commands that use it.

    Raises:
        JobError: A preset of this name exists, or its settings are invalid.
    """
    known = read_presets()
    if name in known:
        raise JobError(f"preset {name!r} already exists in {known[name].file}: choose another name, or edit that file")
    model = find_preset(like) if like else Preset("", {}, {}, own_file())
    ours = {"name": name, "output": f"output/{name}.jsonl"}
    if schema:
        ours["output_schema"] = _schema(schema)
    start = with_overrides(model.parameters, ours)
    path = own_file()
    parameters = options.apply(Preset(name, start, {}, path))
    BatchJob.parse(parameters)
    if path.parent != home():  # paths of the options are relative to the working folder
        parameters = with_folder(parameters, home())
    add_block(path, _block(name, description or str(model.block.get("description") or ""), parameters))
    screen = Screen()
    screen.print(f"Wrote the preset {name} to {path}")
    screen.print(f"To see what it sends: {shell(f'batch-llm show {name}')}")
    screen.print(f"To try it on a few rows: {shell(f'batch-llm try {name}')}")
    screen.print(f"To run it: {shell(f'batch-llm run {name}')}")
    return 0


def add_block(path: Path, block: dict[str, Any]) -> None:
    """Add a deployment to a presets file; create the file if it does not exist.

    Raises:
        JobError: The file cannot be written.
    """
    text: Any = YAML()  # its methods are not typed
    text.indent(mapping=2, sequence=4, offset=2)
    text.preserve_quotes = True
    text.width = 4096  # keeps line breaks made by hand
    try:
        content: Any = text.load(path.read_text(encoding="utf-8") if path.exists() else HEADER)
        content["deployments"] = content["deployments"] or []  # `[]` would stay on one line
        content["deployments"].append(block)
        written = StringIO()
        text.dump(content, written)
        path.write_text(written.getvalue(), encoding="utf-8")
    except OSError as error:
        raise JobError(f"cannot write the preset to {path}: {error.strerror}") from error


def _block(name: str, description: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        **({"description": description} if description else {}),
        "tags": ["batch-llm"],
        "entrypoint": "flows/batch.py:batch",
        "work_pool": {"name": "batch-llm"},
        "parameters": {setting: _readable(value) for setting, value in parameters.items()},
    }


def _readable(value: Any) -> Any:
    return LiteralScalarString(value) if isinstance(value, str) and "\n" in value else value


def _schema(given: str) -> Any:
    if given.lstrip().startswith("{"):
        text, place = given, "--schema"
    else:
        path = resolve(given)
        try:
            text, place = path.read_text(encoding="utf-8"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            raise JobError(f"--schema: cannot read {path}: {error}") from error
    return parse_schema(text, place)
