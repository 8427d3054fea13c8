"""Progress of a run while it runs: a bar in a terminal, else a line every few seconds."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from batch_llm.jobs import Progress
from batch_llm.jobs.ledger.progress_line import BETWEEN, Rate, facts, waits

from .screen import Screen

LINE_SECONDS = 10.0
"""Seconds between two lines without a terminal."""


def phase(progress: Progress, *, stopping: bool) -> str:
    """Return the current phase of the run; empty while items are called."""
    if stopping:
        return "Stopping: waiting for calls in flight (press Ctrl-C again to kill)"
    if progress.waiting:
        return f"Waiting for {progress.waiting}: it uses the same ledger"
    if not progress.total:
        return "Starting and planning"
    if progress.publishing:
        return "Writing results"
    return ""


def folded(line: str, width: int) -> str:
    """Break a line between two facts where it is wider than `width`."""
    lines = [""]
    for part in line.split(BETWEEN):
        longer = f"{lines[-1]}{BETWEEN}{part}" if lines[-1] else part
        if len(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(part)
    return "\n".join(lines)


class View:
    """Progress view of a run; call `show` twice a second."""

    def __init__(self, screen: Screen, name: str) -> None:
        self.stopping = False
        self._screen = screen
        self._name = name
        self._rate = Rate()
        self._spinner = Spinner("dots")
        self._printed_at = float("-inf")
        self._printed: str = ""
        self._live = Live(console=screen.out, transient=True) if screen.out.is_terminal else None

    def __enter__(self) -> View:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Show the progress of the run."""
        if progress.total:
            self._rate.update(progress.done, waits=waits(progress))
        what = phase(progress, stopping=self.stopping)
        if self._live:
            self._live.update(self._picture(progress, what))
        else:
            self._line(progress, what)

    def _picture(self, progress: Progress, what: str) -> Group:
        self._spinner.update(text=what)
        if not progress.total:
            return Group(self._spinner)
        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            Text(self._name, style="bold"),
            ProgressBar(total=progress.total, completed=progress.done, width=40),
            f"{progress.done:,}/{progress.total:,}",
            f"{100 * progress.done / progress.total:.0f} %",
        )
        numbers = Text(folded(facts(progress, self._rate.per_second), self._screen.out.width))
        return Group(bar, numbers, self._spinner) if what else Group(bar, numbers)

    def _line(self, progress: Progress, what: str) -> None:
        now = time.monotonic()
        is_due = progress.total > 0 and now - self._printed_at >= LINE_SECONDS
        if not is_due and what == self._printed:
            return
        self._printed_at, self._printed = now, what
        parts = [f"{self._name} {progress.done:,}/{progress.total:,}", facts(progress, self._rate.per_second)]
        self._screen.print(" · ".join([*(parts if progress.total else []), *([what] if what else [])]))
