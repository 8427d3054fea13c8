"""Log handlers of a run: they survive a closed console, hide secrets and end with the run's sentence."""

from __future__ import annotations

import logging
import re
from functools import partial

from prefect.exceptions import CancelledRun, FailedRun, TerminationSignal
from prefect.logging.handlers import APILogWorker, PrefectConsoleHandler

from batch_llm.jobs.secrets import redact
from batch_llm.jobs.untrusted_text import visible

SEND_SECONDS = 5
"""Seconds for sending the last records of a run that a signal ends."""

_ENGINE_ENDED = re.compile(r"Engine execution (?:exited with unexpected|interrupted by base) exception")
_PROCESS_ENDED = re.compile(r"Execution (?:of flow run '.+' )?(?:exited with unexpected|interrupted by base) exception")
_NO_RETRY = re.compile(r"Task run failed with state: .*result=(?:ShardUnfinished|JobError)\(", re.DOTALL)
_FINISHED = re.compile(r"(Finished in state (?P<name>\w+))\(.+", re.DOTALL)
"""Texts of Prefect 3.8; a record with another text is logged unchanged."""

_OWN_FLOW = "batch-llm"


def prepare_log_handlers() -> None:
    """Prepare the process's log handlers for a run.

    Prefect's console handlers become silent when their reader is gone: the runs of a killed worker write to a broken
    pipe. Prefect prints through rich, which would exit the process at the next log line:
    https://rich.readthedocs.io/en/stable/reference/console.html#rich.console.Console.on_broken_pipe

    All handlers escape control characters and remove secrets, because log lines contain ids, errors and messages of
    providers. They also replace the tracebacks and representations with which Prefect's engines log failures that are
    not bugs.
    """
    known = [logging.getLogger(name) for name in (None, *logging.root.manager.loggerDict)]
    for handler in {handler for logger in known for handler in logger.handlers}:
        if isinstance(handler, PrefectConsoleHandler):
            handler.console.on_broken_pipe = partial(setattr, handler.console, "quiet", True)
        for accepts in (_reword, _clean):
            if accepts not in handler.filters:
                handler.addFilter(accepts)


def send_logs() -> None:
    """Send all records to the server: after SIGTERM, the engine ends the process without doing so."""
    APILogWorker.drain_all(timeout=SEND_SECONDS)


def _reword(record: logging.LogRecord) -> bool:
    """Reword the engines' records about outcomes of a run; reject those that only repeat another record."""
    text = str(record.msg)
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and (sentence := _sentence_of(error)):
        if _PROCESS_ENDED.fullmatch(text):
            return False  # the flow run's log has the sentence already
        if _ENGINE_ENDED.fullmatch(text):
            level = logging.ERROR if isinstance(error, FailedRun) else logging.WARNING
            record.msg, record.args = "%s", (sentence,)
            record.exc_info = record.exc_text = None
            record.levelno, record.levelname = level, logging.getLevelName(level)
    if (found := _FINISHED.fullmatch(text)) and _is_repeated(record, found["name"]):
        record.msg = found[1]
    return not _NO_RETRY.match(text)  # "Finished in state" follows, with the same message


def _is_repeated(record: logging.LogRecord, state: str) -> bool:
    """Whether the message of a state is also in the next record: of the flow about a shard, or of the engine."""
    is_own = getattr(record, "flow_name", "") == _OWN_FLOW
    return state == "Unfinished" or (is_own and state != "Completed")


def _sentence_of(error: BaseException) -> str:
    """Return the sentence of a run that is not a crash: the message of its state, or the note of its signal."""
    match error:
        case FailedRun() | CancelledRun():
            return str(error)
        case TerminationSignal() | KeyboardInterrupt():
            return "".join(getattr(error, "__notes__", [])[-1:])
        case _:
            return ""


def _clean(record: logging.LogRecord) -> bool:
    """Escape the control characters of a record's text and remove its secrets; accept every record."""
    try:
        message = record.getMessage()
    except Exception:
        return True
    if (shown := visible(redact(message))) != message:
        record.msg, record.args = shown, ()
    if record.exc_info and not record.exc_text:
        record.exc_text = visible(redact(_formatter.formatException(record.exc_info)))
    return True


_formatter = logging.Formatter()
