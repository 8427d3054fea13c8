"""Which outputs a job accepts as answers: not blank, complete if the job requires it, and not too large."""

from __future__ import annotations

from typing import Any

from batch_llm.items import AnyResult
from batch_llm.strategies.blank_text import is_blank
from batch_llm.strategies.finish_reasons import truncation_message

from .job import BatchJob
from .storage.json_files import to_json

MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""Maximum size of one answer as JSON. Readers of ledgers and outputs hold several answers in memory at once."""

TRUNCATED = "length"
"""Finish reason of an answer that was cut off at the token limit."""

# RE2's classes of invisible characters, the same as in `is_blank`.
_BLANK = (
    r"[\\s\\p{Z}\\p{C}\\x{34F}\\x{115F}\\x{1160}\\x{17B4}\\x{17B5}\\x{180B}-\\x{180F}\\x{2800}\\x{3164}"
    r"\\x{FE00}-\\x{FE0F}\\x{FFA0}\\x{E0000}-\\x{E0FFF}]*"
)
_LONGEST_BLANK = 10_000

# Whether an answer is an object, a list or a number, or a text that begins with one of # to [ or a to z. Comparing the
# JSON is cheap; parsing every answer in the ledger is not.
_SURELY_NOT_BLANK = """(output::VARCHAR >= '#' OR output::VARCHAR >= '"#' AND output::VARCHAR < '"\\'
    OR output::VARCHAR >= '"a' AND output::VARCHAR < '"{')"""


def rejection_reason(result: AnyResult, job: BatchJob) -> str | None:
    """Return why a job does not accept the output of a successful result; None if it does."""
    output = result.output
    if isinstance(output, str) and is_blank(output):
        return "the answer is blank"
    if result.finish_reason == TRUNCATED and job.truncated_answers == "fail":
        tokens = result.token_usage.get("output_tokens", 0)
        words = truncation_message(tokens, job.model_settings.get("max_tokens"), begun=True)
        return f"{words}, or set truncated_answers=keep"
    if not _is_small(output) and (size := len(to_json(output).encode())) > MAX_ANSWER_BYTES:
        most = MAX_ANSWER_BYTES // 1024**2
        return (
            f"the answer has {size / 1024**2:,.0f} MB; the limit is {most} MB: ask for a shorter answer, or set "
            "max_tokens in model_settings"
        )
    return None


_MAY_BE_TOO_LARGE = MAX_ANSWER_BYTES // 12
"""Characters of text from which an answer is measured exactly: a character takes at most 12 bytes in JSON."""


def _is_small(output: Any) -> bool:
    """Return whether an output is surely within the limit, by the length of its texts and 32 per other value."""
    if isinstance(output, str):
        return len(output) < _MAY_BE_TOO_LARGE
    length, waiting = 0, [output]
    while waiting and length < _MAY_BE_TOO_LARGE:
        value: Any = waiting.pop()
        if isinstance(value, str):
            length += len(value)
        elif isinstance(value, dict):
            waiting += [*value, *value.values()]  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        elif isinstance(value, list | tuple):
            waiting += value
        elif value is None or isinstance(value, int | float):
            length += 32
        else:  # a model or another object of a caller's strategy
            return False
    return length < _MAY_BE_TOO_LARGE


def accepted_condition(job: BatchJob) -> str:
    """Return an SQL condition that selects the successful records with an answer that the job accepts.

    Earlier versions accepted blank text as an answer and did not record a finish reason.
    """
    conditions: list[str] = []
    if job.output_schema is None:
        conditions.append(
            f"NOT CASE WHEN {_SURELY_NOT_BLANK} THEN false "
            f"ELSE coalesce(length(output) < {_LONGEST_BLANK} AND json_type(output) = 'VARCHAR' "
            f"AND regexp_full_match(output->>'$', E'{_BLANK}'), false) END"
        )
    if job.truncated_answers == "fail" or job.only_truncated:
        conditions.append(f"finish_reason IS DISTINCT FROM '{TRUNCATED}'")
    return " AND ".join(conditions) or "true"
