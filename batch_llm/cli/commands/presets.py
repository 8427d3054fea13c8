"""`batch-llm presets`."""

from __future__ import annotations


def presets() -> None:
    """List the presets: model, source, output, schedule."""
    from batch_llm.cli.presets import print_presets

    print_presets()
