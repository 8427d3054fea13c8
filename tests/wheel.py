"""Drives an installed wheel from an unrelated folder: `.ci/wheel` runs it as `python wheel.py VENV`."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path


def run(*command: str, expect: int = 0) -> str:
    print("$", Path(command[0]).name, *command[1:], flush=True)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    print(done.stdout + done.stderr)
    if done.returncode != expect or "Traceback" in done.stderr:
        raise SystemExit(f"exit code {done.returncode} where {expect} was expected")
    return done.stdout + done.stderr


def main(venv: Path) -> None:
    files = [str(file) for file in distribution("batch-llm").files or ()]
    top = {file.split("/")[0] for file in files if not file.startswith("..")}
    assert {name for name in top if not name.endswith(".dist-info")} == {"batch_llm"}, top
    for carried in ("flows/batch.py", "deployments/prefect.yaml", "deployments/samples/crane-incident-report.md"):
        assert f"batch_llm/_project/{carried}" in files, carried

    command = str(venv / "bin" / "batch-llm")
    assert "demo" in run(command, "--help")
    assert "summarize" in run(command, "presets")
    assert "does not exist" in run(command, "run", "summarize", "--source", "none.csv", expect=2)
    code = "import batch_llm, sys; print(len(batch_llm.__all__), 'prefect' in sys.modules)"
    assert run(str(venv / "bin" / "python"), "-c", code).split()[1] == "False"


main(Path(sys.argv[1]))
