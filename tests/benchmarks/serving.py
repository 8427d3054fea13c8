"""A provider's loopback server in a process of its own, so that what it costs is not counted as the client's."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urljoin

from .fresh import CHECKOUT


@dataclass(frozen=True, slots=True)
class Served:
    """A server that listens; `url` is what a client takes as its base URL."""

    url: str

    def stats(self) -> dict[str, Any]:
        """Ask what it saw: `requests`, `max_in_flight`, `input_tokens`, `output_tokens`, `kinds`."""
        with urllib.request.urlopen(urljoin(self.url, "/stats"), timeout=10) as answer:
            return json.load(answer)


@contextmanager
def listening(module: str, *arguments: object) -> Generator[Served]:
    """Run a module that serves until it is ended and prints its base URL first; the block's end ends it.

    Raises:
        RuntimeError: The server did not come up; its own words stand on standard error.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip() if process.stdout else ""
            if not url:
                raise RuntimeError(f"{' '.join(command[2:])} did not start: exit code {process.wait(10)}")
            yield Served(url)
        finally:
            process.terminate()


def served(provider: Literal["openai", "gemini"], *, latency: float = 0.0) -> AbstractContextManager[Served]:
    """Serve a provider's API until the block ends; every answer takes `latency` seconds."""
    return listening("tests.support.servers", provider, "--latency", latency)
