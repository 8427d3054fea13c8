"""`batch-llm limit`: what a provider allows, for all runs that share it, also for those at work."""

from __future__ import annotations

from dataclasses import asdict, replace

from rich.table import Table

from batch_llm.cli.terminal.connection import connected
from batch_llm.cli.terminal.interrupts import Interrupts
from batch_llm.cli.terminal.screen import Screen, shell
from batch_llm.config import Limits
from batch_llm.errors import BatchLLMError
from batch_llm.prefect.api import one_line
from batch_llm.prefect.rate_limits import stated_limits as stated


def set_limit(scope: str, changes: dict[str, float]) -> int:
    """Change what is stated for a scope; what `changes` does not name stays.

    Raises:
        BatchLLMError: A number that cannot be, or nothing to change.
    """
    if not changes:
        raise BatchLLMError("nothing to set: add --requests-per-minute, --tokens-per-minute, or another limit")
    try:
        Limits(**changes)
    except ValueError as error:
        raise BatchLLMError(str(error)) from error
    screen = Screen()
    with Interrupts.caught() as interrupts, connected(interrupts, screen) as connection:
        connection.wait()
        limits = replace(_known(scope), **changes)
        stated.state(scope, limits)
    screen.print(f"{scope}: {_in_words(limits)}. Runs at work heed it within seconds")
    return 0


def _known(scope: str) -> Limits:
    value = stated.all_stated().get(scope)
    try:
        return Limits() if value is None else stated.from_value(value)
    except ValueError:
        return Limits()  # what nobody can read is replaced


def show_limits() -> int:
    """Show what is stated."""
    screen = Screen()
    with Interrupts.caught() as interrupts, connected(interrupts, screen) as connection:
        connection.wait()
        found = stated.all_stated()
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("scope", overflow="fold")
    table.add_column("limits")
    for scope, value in found.items():
        table.add_row(scope, _shown(value))
    if found:
        screen.out.print(table)
    else:
        screen.print(f"No limit is stated; {shell('batch-llm limit set SCOPE --requests-per-minute N')} states one")
    return 0


def clear_limit(scope: str) -> int:
    """State nothing for a scope any more.

    Raises:
        BatchLLMError: Nothing was stated for it.
    """
    screen = Screen()
    with Interrupts.caught() as interrupts, connected(interrupts, screen) as connection:
        connection.wait()
        if not stated.clear(scope):
            known = ", ".join(stated.all_stated()) or "none"
            raise BatchLLMError(f"no limit is stated for {scope!r}; there are: {known}")
    screen.print(f"{scope}: what a job says of the limit counts again, or what a run finds")
    return 0


def _shown(value: object) -> str:
    try:
        return _in_words(stated.from_value(value))
    except ValueError as error:
        return f"cannot be read: {one_line(error)}"


def _in_words(limits: Limits) -> str:
    parts = [f"{value:,.0f} {name.replace('_', ' ')}" for name, value in asdict(limits).items() if value is not None]
    return ", ".join(parts) or "none"
