"""Commands import only what they need: Prefect, pydantic-ai and the providers' packages take seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.command import environment

HEAVY = ("prefect", "pydantic_ai", "openai", "anthropic", "google.genai")

COMMANDS = ("--help", "status", "presets", "results", "show summarize", "run summarize --source missing.csv")

SCRIPT = f"""
import sys
from batch_llm.cli import main
for command in {COMMANDS}:
    try:
        main(command.split())
    except SystemExit:
        pass
    print("imported by", command, [name for name in {HEAVY} if name in sys.modules])
"""


def test_commands_that_need_no_prefect_import_none(tmp_path: Path) -> None:
    """In one process, as each new one takes half a second."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("imported by ")]
    assert found == [f"imported by {command} []" for command in COMMANDS]
