"""Short ways to make jobs and to read files in tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb

from batch_llm.jobs import BatchJob, Plan


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
