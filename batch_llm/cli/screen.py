"""Where the command writes: a terminal that moves, or plain lines where there is none."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console

PLAIN_WIDTH = 120


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, soft_wrap=False)
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

    def say(self, text: str = "") -> None:
        """Write a line as it is, however long: addresses and paths must stay whole."""
        self.out.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def phase(self, what: str) -> Generator[None]:
        """Show that something takes a while: a spinner that is gone afterwards, or a line."""
        if not self.out.is_terminal:
            self.say(f"{what} ...")
            yield
            return
        started = time.monotonic()
        with self.out.status(f"{what} ...", spinner="dots"):
            yield
        if time.monotonic() - started > 2:
            self.say(f"{what}: {time.monotonic() - started:.0f} s")


def shell(command: str) -> str:
    """Return a command as this user has to type it: `uv run` brings no command into the user's own shell."""
    return f"uv run {command}" if "UV_RUN_RECURSION_DEPTH" in os.environ else command
