"""Takes 200 documents of a megabyte through plan and merge, and prints by how many bytes the process has grown."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import tempfile
from pathlib import Path

from .making import whole_run

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
        totals = whole_run("r", prompt="{id}", output="out.jsonl")
        print(json.dumps({"documents": DOCUMENTS, "answered": totals.succeeded, "grown": _peak() - before}))


if __name__ == "__main__":
    main()
