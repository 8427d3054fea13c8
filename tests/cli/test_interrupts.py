"""Signals at any point of a command are raised as `KeyboardInterrupt`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator

import duckdb
import pytest
from pydantic import BaseModel, TypeAdapter, model_serializer

from batch_llm.cli import INTERRUPTED, main
from batch_llm.cli.terminal.interrupts import Interrupts

pytestmark = pytest.mark.shell


class Interrupted(BaseModel):
    @model_serializer
    def interrupt(self) -> dict[str, str]:
        signal.raise_signal(signal.SIGINT)
        return {}


def interrupted() -> Iterator[int]:
    yield 1
    signal.raise_signal(signal.SIGINT)


def query() -> None:
    """Run a query of some seconds, which an interrupt ends early."""
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with duckdb.connect(config={"threads": 1}) as tables:
        tables.execute("SELECT count(*) FROM range(3_000_000_000)")


@pytest.mark.parametrize(
    "work",
    [
        query,
        Interrupted().model_dump,
        Interrupted().model_dump_json,
        lambda: TypeAdapter(list[int]).validate_python(interrupted()),
    ],
)
def test_an_interrupt_that_a_library_wraps_is_an_interrupt(work: Callable[[], object]) -> None:
    """Pydantic wraps any exception in its own error, with the original as the cause or in the text; so does DuckDB."""
    with pytest.raises(KeyboardInterrupt), Interrupts.caught():
        work()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_signal_that_stops_a_command_is_an_interrupt(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts.caught():
        signal.raise_signal(number)


def test_an_interrupted_query_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """It is one line, whatever DuckDB makes of the interrupt."""

    def command(*_: object, **__: object) -> None:
        query()

    signal.signal(signal.SIGINT, signal.default_int_handler)  # the shell may ignore it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batch_llm.cli.app.app", command)
        assert main(["results"]) == INTERRUPTED
    assert capsys.readouterr().err == "batch-llm: interrupted\n"


def test_an_error_that_is_not_an_interrupt_is_raised_unchanged() -> None:
    with pytest.raises(ValueError, match="its own"), Interrupts.caught():
        raise ValueError("its own")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
