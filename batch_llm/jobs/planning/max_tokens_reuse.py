"""Reuse of answers with a lower max_tokens: answers that were not cut off are also valid with a higher value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast

from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.ledger.run_folder import RunFolder
from batch_llm.jobs.storage.duckdb_session import Tables, execute, text
from batch_llm.jobs.storage.json_files import objects_in, to_json
from batch_llm.jobs.storage.store import Store

from .answer_keys import AnswerKeys
from .items import read_prompt

_LIMITS = "token-limits.json"
"""File in the folder of a job with the values of max_tokens of its runs."""

_SETTING = "max_tokens"
_MOST = 8


def record_max_tokens(job: BatchJob, runs: Store) -> None:
    """Record the max_tokens of a job, for later runs with a higher value."""
    limit = job.model_settings.get(_SETTING)
    known = _known(runs)
    if type(limit) is int and limit not in known:
        with suppress(OSError):  # later runs then call these items again
            runs.write(_LIMITS, to_json({"limits": [*known, limit][-_MOST:]}).encode())


def _known(runs: Store) -> list[int]:
    found = [known.get("limits") for known in objects_in([runs.read(_LIMITS) or b""])]
    limits: Any = found[0] if found else None
    return [limit for limit in cast("list[Any]", limits) if type(limit) is int] if isinstance(limits, list) else []


def find_keys_of_lower_max_tokens(tables: Tables, job: BatchJob, folder: RunFolder, strategy: str) -> bool:
    """Create the table `earlier_keys` with the keys of items at lower max_tokens; return whether there are any.

    Raises:
        OSError: The ledger cannot be read.
    """
    now = job.model_settings.get(_SETTING)
    lower = [limit for limit in _known(folder.runs) if now is None or (type(now) is int and limit < now)]
    if not lower:
        return False
    place = folder.items.with_suffix(".keys")
    settings = [job.model_settings | {_SETTING: limit} for limit in lower]
    keys = [AnswerKeys(job.model_copy(update={"model_settings": one}), strategy) for one in settings]
    with place.open("w", encoding="ascii") as file:
        for position, prompt in _prompts(tables, folder):
            file.writelines(f"{position},{made.key(prompt)}\n" for made in keys)
    columns = "columns={'position': 'BIGINT', 'key': 'VARCHAR'}"
    execute(
        tables,
        f"CREATE OR REPLACE TEMP TABLE earlier_keys AS FROM read_csv({text(place)}, header=false, {columns})",
    )
    place.unlink()
    return True


def _prompts(tables: Tables, folder: RunFolder) -> Iterator[tuple[int, str]]:
    query = f"SELECT position, starts, ends FROM {text(folder.items)} WHERE error IS NULL ORDER BY position"
    with tables.cursor() as cursor, folder.prompts.open("rb") as prompts:
        rows = cursor.execute(query)
        while found := rows.fetchmany(1000):
            for position, starts, ends in found:
                yield position, json.loads(read_prompt(prompts, starts, ends))
