"""A run outlives whoever reads its log lines."""

from __future__ import annotations

import logging
from functools import partial

from prefect.logging.handlers import PrefectConsoleHandler


def outlive_reader() -> None:
    """Let Prefect's lines on the console fall silent when nobody reads them any more.

    A worker that is killed leaves its runs a broken pipe. Prefect prints through rich, which then exits out of whatever
    logs the next line: https://rich.readthedocs.io/en/stable/reference/console.html#rich.console.Console.on_broken_pipe
    """
    known = [logging.getLogger(name) for name in (None, *logging.root.manager.loggerDict)]
    for handler in {handler for logger in known for handler in logger.handlers}:
        if isinstance(handler, PrefectConsoleHandler):
            handler.console.on_broken_pipe = partial(setattr, handler.console, "quiet", True)
