"""Commands import only what they need: Prefect, pydantic-ai and the providers' packages take seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import environment

HEAVY = ("prefect", "pydantic_ai", "openai", "anthropic", "google.genai")

SCRIPT = f"""
import sys
from batch_llm.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print("imported:", *(name for name in {HEAVY} if name in sys.modules))
"""


@pytest.mark.parametrize(
    "arguments",
    ["--help", "status", "presets", "results", "show summarize", "run summarize --source missing.csv"],
    ids=lambda text: text,
)
def test_a_command_that_needs_no_prefect_imports_none(tmp_path: Path, arguments: str) -> None:
    command = [sys.executable, "-c", SCRIPT, *arguments.split()]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "imported:"
