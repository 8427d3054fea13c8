"""An ordinary run, as the history of a job has it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from batch_llm.jobs import PastRun

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()


def ordinary(**figures: Any) -> PastRun:
    """Return the totals of an ordinary run, with these changes."""
    usual: dict[str, Any] = {
        "run": "r",
        "began": NOON,
        "model": "openai-chat:m",
        "items": 1000,
        "called": 1000,
        "succeeded": 990,
        "answered": 990,
        "failed": 10,
        "cost_usd": 4.0,
        "output_tokens": 49_500,
        "seconds": 1080.0,
        "call_p50_seconds": 0.5,
        "call_p95_seconds": 1.2,
        "items_per_second": 1.0,
        "stopped": "",
    }
    return PastRun(**(usual | figures))
