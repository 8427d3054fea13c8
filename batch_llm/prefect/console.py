"""Log handlers of a run: they survive a closed console and escape control characters."""

from __future__ import annotations

import logging
from functools import partial

from prefect.logging.handlers import PrefectConsoleHandler

from batch_llm.jobs.untrusted_text import visible


def prepare_log_handlers() -> None:
    """Prepare the process's log handlers for a run.

    Prefect's console handlers become silent when their reader is gone: the runs of a killed worker write to a broken
    pipe. Prefect prints through rich, which would exit the process at the next log line:
    https://rich.readthedocs.io/en/stable/reference/console.html#rich.console.Console.on_broken_pipe

    All handlers escape control characters, because log lines contain ids, errors and messages of providers.
    """
    known = [logging.getLogger(name) for name in (None, *logging.root.manager.loggerDict)]
    for handler in {handler for logger in known for handler in logger.handlers}:
        if isinstance(handler, PrefectConsoleHandler):
            handler.console.on_broken_pipe = partial(setattr, handler.console, "quiet", True)
        if _escape not in handler.filters:
            handler.addFilter(_escape)


def _escape(record: logging.LogRecord) -> bool:
    """Escape the control characters of a record's text; accept every record."""
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
