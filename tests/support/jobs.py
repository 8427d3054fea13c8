"""Short ways to make jobs and to read files in tests."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import duckdb

from batch_llm.jobs import BatchJob, Plan, Summary, job_store, merge, plan
from batch_llm.jobs.ledger.records import LedgerWriter, Record


def job(**settings: Any) -> BatchJob:
    """A job over docs.jsonl, with whatever a test sets."""
    return BatchJob.parse({"source": "docs.jsonl", "prompt": "{text}", "output": "out.jsonl", **settings})


def write_lines(path: Path, *rows: Any) -> Path:
    """Write JSON lines; text is written as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """Read JSON lines, each of which must be whole."""
    return [json.loads(line) for line in Path(path).read_bytes().splitlines()]


def items(plan: Plan) -> list[dict[str, Any]]:
    """The items of a plan."""
    with duckdb.connect() as tables:
        rows = tables.execute(f"FROM '{plan.folder}/items.parquet' ORDER BY position")
        names = [str(column[0]) for column in rows.description or ()]
        return [dict(zip(names, row, strict=True)) for row in rows.fetchall()]


def prompts(plan: Plan) -> dict[str, str]:
    """What is to be sent, by id, from the shard files."""
    return {item["id"]: item["prompt"] for shard in plan.shards for item in read_lines(shard.path)}


def broken(plan: Plan) -> dict[str, str]:
    """The rows that cannot be sent, and why."""
    return {item["id"]: item["error"] for item in items(plan) if item["error"] is not None}


def documents(home: Path, **texts: str) -> None:
    """Write docs.jsonl: texts by their ids."""
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
    """Write into the ledger what running the shards, or only the first one, would."""
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


def night(made_for: BatchJob, run: str, **how: Any) -> Plan:
    """A whole run, as `answer` answers it."""
    made = plan(made_for, run)
    answer(made_for, made, **how)
    merge(made_for, made)
    return made


def whole_run(run: str, *, fail: str = "", **settings: Any) -> Summary:
    """A run of a job with these settings, as `answer` answers it, and what it came to."""
    made_for = job(**settings)
    made = plan(made_for, run)
    answer(made_for, made, fail=fail, most=sys.maxsize)
    return merge(made_for, made)


def age(made_for: BatchJob, run: str, days: float) -> None:
    """Let a run have begun so long ago."""
    kept = job_store(made_for).folder(run)
    made = json.loads(kept.read("plan.json") or b"")
    kept.write("plan.json", json.dumps({**made, "planned_at": time.time() - days * 86_400}).encode())
