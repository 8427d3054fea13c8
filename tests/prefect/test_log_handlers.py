"""Log handlers of a run."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from prefect.exceptions import TerminationSignal

from batch_llm.prefect.log_handlers import prepare_log_handlers

SECRET = "sk-proj-an-example-key-of-a-test-1234567890"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The text that a handler of the package's logger writes."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    logger = logging.getLogger("batch_llm")
    logger.addHandler(handler)
    prepare_log_handlers()
    yield written
    logger.removeHandler(handler)


def test_secrets_do_not_reach_a_log(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in a message nor in a traceback, with the provider's own words around the key."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    logger = logging.getLogger("batch_llm.engine.attempts")
    try:
        raise ValueError(f"refused the key {SECRET}")
    except ValueError as error:
        logger.warning("Item %s failed: %s", "a", f"key={SECRET}", exc_info=error)
    assert SECRET not in log.getvalue()
    assert "Item a failed: key=***" in log.getvalue()
    assert "ValueError: refused the key ***" in log.getvalue()


def test_control_characters_are_escaped_in_a_log(log: io.StringIO) -> None:
    logging.getLogger("batch_llm.engine.attempts").warning("Item %s failed", "\x1b[2Jid")
    assert "\x1b" not in log.getvalue()
    assert "[2Jid failed" in log.getvalue()


def test_an_interrupted_run_is_logged_with_its_sentence(log: io.StringIO) -> None:
    """The engine's traceback of a signal is replaced if the run has ended in an orderly way, and only then."""
    logger = logging.getLogger("batch_llm.prefect")
    sentence = "3 of 9 answered; stopped by Ctrl-C"
    for signal in (KeyboardInterrupt(), TerminationSignal(15)):
        signal.add_note(sentence)
        logger.error("Engine execution interrupted by base exception", exc_info=signal)
        logger.error("Execution of flow run 'x' interrupted by base exception", exc_info=signal)
    assert log.getvalue().splitlines() == [sentence] * 2
    logger.error("Engine execution interrupted by base exception", exc_info=KeyboardInterrupt())
    assert "KeyboardInterrupt" in log.getvalue()


def test_a_bug_keeps_its_traceback(log: io.StringIO) -> None:
    error = ZeroDivisionError("a bug")
    logging.getLogger("batch_llm.prefect").error(
        "Engine execution exited with unexpected exception", exc_info=(type(error), error, None)
    )
    assert "ZeroDivisionError: a bug" in log.getvalue()
