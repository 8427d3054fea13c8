"""Log handlers of a run."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from batch_llm.prefect.console import prepare_log_handlers

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
