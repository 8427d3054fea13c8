"""`batch-llm server`."""

from __future__ import annotations

from batch_llm.cli.options import loading


def start() -> int:
    """Start the local Prefect server, and leave it running."""
    with loading():
        from batch_llm.cli.terminal.local_server import start

    return start()


def stop() -> int:
    """End the local Prefect server; what it knows of runs stays on disk."""
    with loading():
        from batch_llm.cli.terminal.local_server import stop

    return stop()


def status() -> int:
    """Say which Prefect server commands talk to; the exit code is 0 if it answers."""
    with loading():
        from batch_llm.cli.terminal.local_server import status

    return status()
