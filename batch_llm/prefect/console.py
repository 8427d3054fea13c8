"""What a run writes to its log: it outlives whoever reads it, and nothing in it acts on a terminal."""

from __future__ import annotations

import logging
from functools import partial

from prefect.logging.handlers import PrefectConsoleHandler

from batch_llm.jobs.untrusted_text import visible


def outlive_reader() -> None:
    """Prepare the process's log handlers for a run.

    Prefect's lines on the console fall silent when nobody reads them any more: a worker that is killed leaves its runs
    a broken pipe. Prefect prints through rich, which then exits out of whatever logs the next line:
    https://rich.readthedocs.io/en/stable/reference/console.html#rich.console.Console.on_broken_pipe

    Every handler escapes control characters: ids, errors and messages of providers are in the lines.
    """
    known = [logging.getLogger(name) for name in (None, *logging.root.manager.loggerDict)]
    for handler in {handler for logger in known for handler in logger.handlers}:
        if isinstance(handler, PrefectConsoleHandler):
            handler.console.on_broken_pipe = partial(setattr, handler.console, "quiet", True)
        if _escape not in handler.filters:
            handler.addFilter(_escape)


def _escape(record: logging.LogRecord) -> bool:
    """Let a record pass, with the control characters of its text escaped."""
    try:
        message = record.getMessage()
    except Exception:
        return True
    if (shown := visible(message)) != message:
        record.msg, record.args = shown, ()
    if record.exc_info and not record.exc_text:
        record.exc_text = visible(_formatter.formatException(record.exc_info))
    return True


_formatter = logging.Formatter()
