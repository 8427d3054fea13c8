"""Signals at any point of a command are raised as `KeyboardInterrupt`."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest
from pydantic import BaseModel, TypeAdapter, model_serializer

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


@pytest.mark.parametrize(
    "work",
    [
        Interrupted().model_dump,
        Interrupted().model_dump_json,
        lambda: TypeAdapter(list[int]).validate_python(interrupted()),
    ],
)
def test_an_interrupt_that_a_library_wraps_is_an_interrupt(work: Callable[[], object]) -> None:
    """Pydantic wraps any exception in its own error, with the original as the cause or in the text."""
    with pytest.raises(KeyboardInterrupt), Interrupts.caught():
        work()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_signal_that_stops_a_command_is_an_interrupt(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts.caught():
        signal.raise_signal(number)


def test_an_error_that_is_not_an_interrupt_is_raised_unchanged() -> None:
    with pytest.raises(ValueError, match="its own"), Interrupts.caught():
        raise ValueError("its own")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
