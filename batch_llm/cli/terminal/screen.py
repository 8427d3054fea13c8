"""Where the command writes: a terminal that moves, or plain lines where there is none."""

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
    """A console that escapes the control characters of a text, whatever brings it here; its own styles work."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def print_json(value: Any) -> None:
    """Write a value as one line of JSON, for a program; a terminal that shows it is safe as well."""
    print(visible_json(json.dumps(value, ensure_ascii=False)), flush=True)


def _console(*, stderr: bool) -> Console:
    console = _VisibleConsole(stderr=stderr, highlight=False, soft_wrap=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PLAIN_WIDTH
    return console


class Screen:
    """The command's output.

    Attributes:
        for_program: Standard output is for a program.
        out: What a person reads; standard error when standard output is for a program.
        error: Standard error.
    """

    def __init__(self, *, for_program: bool = False) -> None:
        self.for_program = for_program
        self.error = _console(stderr=True)
        self.out = self.error if for_program else _console(stderr=False)

    def print(self, text: str = "") -> None:
        """Write a line as it is, however long: addresses and paths must stay whole."""
        self.out.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def phase(self, what: str) -> Generator[None]:
        """Show that something takes a while: a spinner that is gone afterwards, or a line."""
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
    """Return a command as this user has to type it: `uv run` brings no command into the user's own shell."""
    return f"uv run {command}" if "UV_RUN_RECURSION_DEPTH" in os.environ else command
