"""Output of the command: a terminal with live updates, or plain lines."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from batch_llm.jobs.untrusted_text import visible, visible_json

PLAIN_WIDTH = 120


class _VisibleConsole(Console):
    """Console that escapes control characters in text; its own styles still work."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def print_json(value: Any) -> None:
    """Print a value as one line of JSON, with control characters escaped."""
    print(visible_json(json.dumps(value, ensure_ascii=False, default=str)), flush=True)


def _console(*, stderr: bool) -> Console:
    console = _VisibleConsole(stderr=stderr, highlight=False, soft_wrap=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PLAIN_WIDTH
    return console


class Screen:
    """Output of the command.

    Attributes:
        for_program: Whether standard output is for a program.
        out: Console for people; standard error when `for_program` is set.
        error: Console on standard error.
    """

    def __init__(self, *, for_program: bool = False) -> None:
        self.for_program = for_program
        self.error = _console(stderr=True)
        self.out = self.error if for_program else _console(stderr=False)

    def print(self, text: str = "") -> None:
        """Print a line without wrapping: addresses and paths must stay whole."""
        self.out.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def phase(self, what: str) -> Generator[None]:
        """Show that a step is running: a spinner that disappears afterwards, or a line."""
        if not self.out.is_terminal:
            self.print(f"{what} ...")
            yield
            return
        started = time.monotonic()
        with self.out.status(f"{what} ...", spinner="dots"):
            yield
        if time.monotonic() - started > 2:
            self.print(f"{what}: {time.monotonic() - started:.0f} s")


def shell(command: str) -> str:
    """Return a command as the user has to type it, with `uv run` if this process was started by it."""
    return f"uv run {command}" if "UV_RUN_RECURSION_DEPTH" in os.environ else command
