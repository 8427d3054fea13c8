"""Places next to an output: for the rows that failed, and for the rows of a run that is not complete."""

from __future__ import annotations

import hashlib

from batch_llm.jobs.storage.database_urls import parse_address
from batch_llm.jobs.storage.formats import split_ending

_LONGEST_TABLE = 46
"""With `_partial_failures` appended, a table's name is one that PostgreSQL does not cut."""
_LONGEST_NAME = 255
_LONGEST_ADDED = len(".partial.failures")


def failures_place(output: str) -> str:
    """Return where failed rows are written: for out.jsonl in out.failures.jsonl, for the table t in t_failures."""
    if parse_address(output):
        return f"{output}_failures"
    ending = sum(map(len, split_ending(output)))
    return f"{output[:-ending]}.failures{output[-ending:]}"


def partial_place(output: str) -> str:
    """Return where rows that must not replace an output are written: in out.partial.jsonl, in the table t_partial."""
    if parse_address(output):
        schema, dot, table = output.rpartition("#")[2].rpartition(".")
        return f"{output.rpartition('#')[0]}#{schema}{dot}{_shortened(table, _LONGEST_TABLE, '_')}_partial"
    ending = sum(map(len, split_ending(output)))
    folder, slash, stem = output[:-ending].rpartition("/")
    longest = _LONGEST_NAME - _LONGEST_ADDED - ending
    return f"{folder}{slash}{_shortened(stem, longest, '-')}.partial{output[-ending:]}"


def _shortened(name: str, longest: int, before_hash: str) -> str:
    """Return a name, or where it is too long its beginning and a hash, which no other name has."""
    if len(name.encode()) <= longest:
        return name
    start = name.encode()[:32].decode(errors="ignore")
    return f"{start}{before_hash}{hashlib.sha256(name.encode()).hexdigest()[:8]}"
