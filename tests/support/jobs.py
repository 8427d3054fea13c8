"""Functions that make jobs, write records and read files in tests."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import duckdb

from batch_llm.jobs import BatchJob, Plan, Summary, job_store, merge, plan
from batch_llm.jobs.ledger.records import LedgerWriter, Record

VALUES_OF_TYPES = {
    "interval": ("INTERVAL '1 month 2 days 3.5 seconds'", "1 month 2 days 00:00:03.5"),
    "time": ("TIME '12:34:56.7'", "12:34:56.7"),
    "blob": ("'\\xAA\\x00b'::BLOB", "\\xAA\\x00b"),
    "bit": ("'0101'::BIT", "0101"),
    "enum": ("'red'::ENUM('red', 'green')", "red"),
    "timestamp_ns": ("TIMESTAMP_NS '2024-01-02 03:04:05.123456789'", "2024-01-02 03:04:05.123456789"),
}
"""Values of DuckDB's less usual types by the name of a column: as SQL, and as text."""


def job(**settings: Any) -> BatchJob:
    """Return a job over docs.jsonl with these settings."""
    return BatchJob.parse({"source": "docs.jsonl", "prompt": "{text}", "output": "out.jsonl", **settings})


def write_lines(path: Path, *rows: Any) -> Path:
    """Write JSON lines; text is written as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """Read JSON lines; an incomplete line is an error."""
    return [json.loads(line) for line in Path(path).read_bytes().splitlines()]


def items(plan: Plan) -> list[dict[str, Any]]:
    """Return the items of a plan."""
    with duckdb.connect() as tables:
        rows = tables.execute(f"FROM '{plan.folder}/items.parquet' ORDER BY position")
        names = [str(column[0]) for column in rows.description or ()]
        return [dict(zip(names, row, strict=True)) for row in rows.fetchall()]


def prompts(plan: Plan) -> dict[str, str]:
    """Return the prompts in the shard files of a plan, by id."""
    return {item["id"]: item["prompt"] for shard in plan.shards for item in read_lines(shard.path)}


def broken(plan: Plan) -> dict[str, str]:
    """Return the errors of invalid rows, by id."""
    return {item["id"]: item["error"] for item in items(plan) if item["error"] is not None}


def documents(home: Path, **texts: str) -> None:
    """Write docs.jsonl with texts by id."""
    write_lines(home / "docs.jsonl", *({"id": name, "text": text} for name, text in texts.items()))


def answer(
    made_for: BatchJob,
    made: Plan,
    *,
    fail: str = "",
    most: int = 1000,
    only_first: bool = False,
    tokens: int = 0,
    seconds: float = 0.0,
) -> None:
    """Write the records into the ledger that running the shards, or only the first one, would write."""
    kept = job_store(made_for).folder(Path(made.folder).name)
    for shard in made.shards[:1] if only_first else made.shards:
        with LedgerWriter(kept, shard.part) as writer:
            for item in read_lines(shard.path)[:most]:
                common: dict[str, Any] = {"id": item["id"], "key": item["key"], "attempts": 1, "cost_usd": 0.5}
                common |= {"output_tokens": tokens, "seconds": seconds}
                if item["id"] in fail:
                    writer.append(Record(**common, status="failed", category="timeout", error="too slow"))
                else:
                    writer.append(Record(**common, status="succeeded", output=f"answer to {item['prompt']}"))


def run_job(made_for: BatchJob, run: str, **how: Any) -> Plan:
    """Plan, answer and merge a run of a job, with records from `answer`."""
    made = plan(made_for, run)
    answer(made_for, made, **how)
    merge(made_for, made)
    return made


def whole_run(run: str, *, fail: str = "", **settings: Any) -> Summary:
    """Run a job with these settings to its end, with records from `answer`, and return its totals."""
    made_for = job(**settings)
    made = plan(made_for, run)
    answer(made_for, made, fail=fail, most=sys.maxsize)
    return merge(made_for, made)


def leased_runs(made_for: BatchJob, **days: float) -> None:
    """Make runs with the leases 1, 2, ... whose machines' clocks are `days` behind."""
    for lease, (run, behind) in enumerate(days.items(), start=1):
        made = plan(made_for, run, lease=lease)
        answer(made_for, made)
        age(made_for, run, behind)
        merge(made_for, made)


def age(made_for: BatchJob, run: str, days: float) -> None:
    """Change the start of a run to `days` ago."""
    kept = job_store(made_for).folder(run)
    made = json.loads(kept.read("plan.json") or b"")
    kept.write("plan.json", json.dumps({**made, "planned_at": time.time() - days * 86_400}).encode())
