"""A part of a benchmark in a process of its own, which has nothing behind it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]


def fresh(module: str, *arguments: object, timeout_seconds: float = 120.0, env: Mapping[str, str] | None = None) -> Any:
    """Run a module, with an environment of its own if one is given, and return the JSON that it prints.

    Raises:
        RuntimeError: It failed; the message has its own words.
        subprocess.TimeoutExpired: It took longer.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, timeout=timeout_seconds, check=False, env=env
    )
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(map(str, arguments))} failed:\n{done.stderr}")
    return json.loads(done.stdout)
