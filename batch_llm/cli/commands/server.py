"""`batch-llm server`."""

from __future__ import annotations

from batch_llm.cli.options import loading


def start(*, port: int | None = None) -> int:
    """Start the local Prefect server and leave it running.

    Parameters
    ----------
    port
        Port of the server; default: the first free one from 4200.
    """
    with loading():
        from batch_llm.cli.actions.server import start

    return start(port)


def stop() -> int:
    """Stop the local Prefect server; its database stays on disk."""
    with loading():
        from batch_llm.cli.actions.server import stop

    return stop()


def status() -> int:
    """Show which Prefect server the commands use; the exit code is 0 if it answers."""
    with loading():
        from batch_llm.cli.actions.server import status

    return status()
