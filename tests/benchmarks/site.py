"""Environment of a benchmark's flow: a folder, a Prefect server, a provider that costs next to nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.status import Status

from .prefect_process import prefect_server
from .serving import listening


@contextmanager
def site(name: str, *, latency: float) -> Generator[tuple[Path, Status]]:
    """Serve both to this process and its children, every answer in `latency` seconds, until the block ends.

    Yields:
        The folder, and a line on the terminal for what is going on.
    """
    with (
        tempfile.TemporaryDirectory(prefix=f"batch-llm-{name}-") as folder,
        Console(stderr=True).status("") as status,
        prefect_server(Path(folder) / "prefect") as server,
        listening("tests.benchmarks.canned", "--latency", latency) as provider,
    ):
        os.environ.update(server.env, OPENAI_BASE_URL=provider.url, OPENAI_API_KEY="k")
        yield Path(folder), status
