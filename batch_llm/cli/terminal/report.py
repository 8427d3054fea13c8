"""Report of a finished run: a table of results, totals and files; or one JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from batch_llm.items import AnyResult
from batch_llm.jobs import Summary
from batch_llm.jobs.messages import run_sentence, speed_line
from batch_llm.jobs.provider_messages import provider_first
from batch_llm.jobs.untrusted_text import visible

from .screen import Screen

MOST_ROWS = 20
MOST_FIELDS = 3
MOST_LINES = 2
"""Approximate number of lines in a row; the output file has the full text."""

ITEM_WIDTH, NUMBERS_WIDTH = 28, 20


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """Outcome of a finished run.

    Attributes:
        summary: The run's totals.
        results: First rows of the results, failures first.
        run_url: Address of the run's page.
        state: State of the run, as `batch-llm status` shows it.
        message: The totals and the reason of the state, in one sentence.
    """

    summary: Summary
    results: Sequence[AnyResult]
    run_url: str
    state: str
    message: str


def as_json(outcome: RunOutcome) -> str:
    """Return the outcome as one line of JSON."""
    summary = outcome.summary
    counts = (
        "total_items",
        "succeeded",
        "failed",
        "not_attempted",
        "reused",
        "new",
        "changed",
        "retried",
        "refreshed",
        "left_out",
        "truncated",
    )
    tokens = ("input", "cached_input", "output", "estimated")
    spent = (*(f"total_{kind}_tokens" for kind in tokens), "cost_usd", "priced_by", "total_attempts")
    speed = ("items_per_second", *(f"call_p{share}_seconds" for share in (50, 95, 99)))
    waits = ("wait_p50_seconds", "wait_p95_seconds")
    rest = ("categories", "saved_usd", "lanes", "budgets", "notes", "warnings", "seconds", "output", "failures")
    totals = {name: getattr(summary, name) for name in (*counts, *spent, *speed, *waits, *rest)}
    known = {"state": outcome.state, "message": outcome.message, **totals, "flow_run_url": outcome.run_url}
    return json.dumps(known, ensure_ascii=False)


def print_outcome(screen: Screen, outcome: RunOutcome) -> None:
    """Print the outcome as a table and text."""
    summary = outcome.summary
    if outcome.results:
        screen.out.print(results_table(outcome.results, screen.out.width))
        if summary.total_items > len(outcome.results):
            screen.print(f"... and {summary.total_items - len(outcome.results):,} more items in the output")
    screen.print()
    screen.print(f"{run_sentence(summary)}.")
    if speed := speed_line(summary):
        screen.print(f"Speed: {speed}.")
    for warning in summary.warnings:
        screen.print(f"Warning: {warning}.")
    for note in summary.notes:
        screen.print(note)
    places = {"output": summary.output, "failures": summary.failures, "page": outcome.run_url}
    for name, place in places.items():
        if place:
            screen.print(f"{name:>9}  {place}")


def results_table(results: Sequence[AnyResult], width: int) -> Table:
    """Return a table with one row per item; the answer's first field is narrow, the others are twice as wide."""
    fields = list(dict.fromkeys(field for result in results for field in _answer(result)))[:MOST_FIELDS]
    table = Table(header_style="bold", expand=True, pad_edge=False, box=None, padding=(0, 2, 0, 0))
    table.add_column("item", max_width=ITEM_WIDTH, overflow="fold")
    for name in fields or ["answer"]:
        table.add_column(escape(visible(name)), ratio=2 if name in fields[1:] else 1, overflow="fold")
    table.add_column("tokens", justify="right", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    share = max(0, width - ITEM_WIDTH - NUMBERS_WIDTH) // max(1, 2 * len(fields) - 1)
    for result in results:
        item, *cells, tokens, seconds = _cells(result, fields)
        cut = [_cut(text, MOST_LINES * share * (2 if index else 1) - 8) for index, text in enumerate(cells)]
        colour = "" if result.success else "red"
        table.add_row(item, *(Text(text, style=colour) for text in cut), tokens, seconds)
    return table


def _cells(result: AnyResult, fields: Sequence[str]) -> list[str]:
    answer = _answer(result)
    if result.success:
        cells = [_text(answer.get(field)) for field in fields]
    else:
        category = result.error_info.category if result.error_info else "failed"
        cells = [category, *[""] * max(0, len(fields) - 2), _text(provider_first(result.error or ""))]
        cells = cells if len(fields) > 1 else [" ".join(cells)]
    tokens = sum(result.token_usage.get(name, 0) for name in ("input_tokens", "output_tokens"))
    return [escape(_text(result.item_id)), *cells, f"{tokens:,}", f"{result.duration_seconds:.2f}"]


def _answer(result: AnyResult) -> Mapping[str, Any]:
    output: object = result.output
    if isinstance(output, dict):
        return cast("Mapping[str, Any]", output)
    return {} if output is None else {"answer": output}


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return visible(" ".join(text.split()))  # before the table is laid out


def _cut(text: str, most: int) -> str:
    most = max(most, 24)
    return text if len(text) <= most else f"{text[: most - 1]}…"
