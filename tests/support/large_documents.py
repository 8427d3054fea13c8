"""Runs a job over 200 documents of a megabyte and prints what it needed.

The output has the growth of the process in bytes, and whether pandas was imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import tempfile
from pathlib import Path

from batch_llm.jobs import plan, run_stats
from batch_llm.jobs.ledger.run_folder import run_folder

from .jobs import job, whole_run

DOCUMENTS = 200


def _write(path: Path) -> None:
    with path.open("w") as file:
        for number in range(DOCUMENTS):
            text = hashlib.sha256(str(number).encode()).hexdigest() * 16384
            file.write(json.dumps({"id": number, "text": text}) + "\n")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BATCH_LLM_HOME"] = folder
        _write(Path(folder) / "docs.jsonl")
        before = _peak()
        prompts = plan(job(name="prompts", prompt="{text}"), "r")
        settings = {"prompt": "{id}", "output": "out.jsonl"}
        totals = whole_run("r", **settings)
        run_stats(run_folder(job(**settings), "r"))
        found = {"documents": DOCUMENTS, "answered": totals.succeeded, "attempts": totals.total_attempts}
        found |= {"prompts": prompts.new}
        print(json.dumps(found | {"grown": _peak() - before, "pandas": "pandas" in sys.modules}))


if __name__ == "__main__":
    main()
