"""Actions of `batch-llm limit`: rate limits that all runs of a scope share, running ones included."""

from __future__ import annotations

from dataclasses import asdict, replace

from rich.table import Table

from batch_llm.cli.terminal.connection import connected
from batch_llm.cli.terminal.interrupts import Interrupts
from batch_llm.cli.terminal.screen import Screen, print_json, shell
from batch_llm.config import Limits
from batch_llm.errors import BatchLLMError
from batch_llm.prefect.api import one_line
from batch_llm.prefect.rate_limits import stated_limits as stated


def set_limit(scope: str, changes: dict[str, float]) -> int:
    """Change the limits of a scope; limits that `changes` does not name stay as they are.

    Raises:
        BatchLLMError: A number is invalid, or `changes` is empty.
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
        stated.save(scope, limits)
    screen.print(f"{scope}: {_in_words(limits)}. Limit saved. Running jobs pick it up within seconds.")
    return 0


def _known(scope: str) -> Limits:
    value = stated.all_stated().get(scope)
    try:
        return Limits() if value is None else stated.from_value(value)
    except ValueError:
        return Limits()  # an unreadable value is replaced


def show_limits(*, for_program: bool) -> int:
    """Print the limits of all scopes."""
    screen = Screen(for_program=for_program)
    with Interrupts.caught() as interrupts, connected(interrupts, screen) as connection:
        connection.wait()
        found = stated.all_stated()
    if for_program:
        print_json({scope: _as_json(value) for scope, value in found.items()})
        return 0
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("scope", overflow="fold")
    table.add_column("limits")
    for scope, value in found.items():
        table.add_row(scope, _shown(value))
    if found:
        screen.out.print(table)
    else:
        screen.print(f"No limits are set. Set one with: {shell('batch-llm limit set SCOPE --requests-per-minute N')}")
    return 0


def clear_limit(scope: str) -> int:
    """Remove the limits of a scope.

    Raises:
        BatchLLMError: The scope has no limits.
    """
    screen = Screen()
    with Interrupts.caught() as interrupts, connected(interrupts, screen) as connection:
        connection.wait()
        if not stated.clear(scope):
            known = ", ".join(stated.all_stated()) or "none"
            raise BatchLLMError(f"no limit is set for {scope!r}; scopes with a limit: {known}")
    screen.print(f"{scope}: Removed. Runs use their own `limits` again, or detect the limit.")
    return 0


def _as_json(value: object) -> dict[str, object]:
    try:
        return asdict(stated.from_value(value))
    except ValueError as error:
        return {"error": one_line(error)}


def _shown(value: object) -> str:
    try:
        return _in_words(stated.from_value(value))
    except ValueError as error:
        return f"invalid: {one_line(error)}"


def _in_words(limits: Limits) -> str:
    parts = [f"{value:,.0f} {name.replace('_', ' ')}" for name, value in asdict(limits).items() if value is not None]
    return ", ".join(parts) or "none"
