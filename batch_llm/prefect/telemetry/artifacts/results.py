"""Results of a run as rows of a table artifact."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from batch_llm.items import AnyResult, BatchResult
from batch_llm.jobs import Summary
from batch_llm.jobs.messages import money, run_sentence
from batch_llm.jobs.provider_messages import provider_first
from batch_llm.jobs.untrusted_text import visible

from .markdown import MOST_PATH, code, cut, plain

MOST_ROWS = 500
"""Maximum rows of the table artifact, because long pages are slow; the output file has all rows."""

MOST_NAME = 100
"""Maximum characters of a column name, which may come from the model."""

_OWN_COLUMNS = frozenset({"item", "status", "attempts", "error", "seconds", "tokens in", "tokens out", "cost"})

Row = dict[str, Any]


def results_note(summary: Summary) -> str:
    """Return the text above the table: the totals in one sentence and the paths of the files."""
    lines = [f"**{plain(run_sentence(summary))}**", "", f"- all items: {code(summary.output, MOST_PATH)}"]
    if summary.failures:
        lines.append(f"- failures only, usable as a source for another run: {code(summary.failures, MOST_PATH)}")
    if summary.total_items > MOST_ROWS:
        lines.append(f"- in this table: the first {MOST_ROWS:,} of {summary.total_items:,}, failures first")
    return "\n".join(lines)


def results_table(result: BatchResult[Any, Any]) -> list[Row]:
    """Return one row per item with the same columns: one column per field of the answers, outcome, error, amounts.

    The page cuts off wide tables, so the answers come first.

    Args:
        result: Results, failures first.
    """
    fields = list(dict.fromkeys(field for item in result.results for field in _fields(item)))
    has_errors = any(not item.success for item in result.results)
    return [
        {
            "item": plain(item.item_id),
            **{_column(field): _cell(_fields(item).get(field)) for field in fields},
            "status": _status(item),
            **({"error": "" if item.success else plain(provider_first(item.error or ""))} if has_errors else {}),
            "attempts": item.attempts,
            "seconds": round(item.duration_seconds, 2),
            "tokens in": item.token_usage.get("input_tokens", 0),
            "tokens out": item.token_usage.get("output_tokens", 0),
            "cost": money(_context(item).get("cost_usd")),
        }
        for item in result.results
    ]


def _column(field: str) -> str:
    name = cut(visible(field), MOST_NAME)
    return f"answer: {name}" if name in _OWN_COLUMNS else name


def _status(item: AnyResult) -> str:
    if not item.success:
        return item.error_info.category if item.error_info and item.error_info.category else "failed"
    cut_off = ", cut off" if item.finish_reason == "length" else ""
    return f"{'reused' if _context(item).get('reused') else 'ok'}{cut_off}"


def _context(item: AnyResult) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", item.context or {})


def _fields(item: AnyResult) -> Mapping[str, Any]:
    output: object = item.output
    if isinstance(output, dict):
        return cast("Mapping[str, Any]", output)
    return {} if output is None else {"answer": output}


def _cell(value: Any) -> Any:
    match value:
        case None:
            return ""
        case dict() | list():
            return plain(json.dumps(value, ensure_ascii=False, default=str))
        case str():
            return plain(value)
        case _:
            return value
