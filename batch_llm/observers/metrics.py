"""Metrics of runs: counts, tokens and durations, in bounded memory."""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections import Counter
from typing import Any

from .base import BaseObserver, ProcessingEvent

_BOUNDS = tuple(0.001 * 2 ** (step / 4) for step in range(101))
"""Upper bounds of the buckets in seconds, from 1 ms to 9 hours, each 19 % above the last."""

_EXPORTED_BOUNDS = _BOUNDS[::4]


class _Histogram:
    """Histogram of durations; the error of a quantile is at most the width of a bucket, 19 %."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS) + 1)
        self.count = 0
        self.sum = 0.0
        self._least = math.inf
        self._most = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(_BOUNDS, value)] += 1
        self.count += 1
        self.sum += value
        self._least = min(self._least, value)
        self._most = max(self._most, value)

    def quantile(self, share: float) -> float:
        """Return the upper bound of the quantile's bucket, limited to the observed range; 0 if empty."""
        rank, seen = math.ceil(share * self.count), 0
        if not self.count:
            return 0.0
        for bound, count in zip((*_BOUNDS, math.inf), self._counts, strict=True):
            seen += count
            if seen >= rank:
                return min(max(bound, self._least), self._most)
        return self._most

    def up_to(self, bound: float) -> int:
        return sum(self._counts[: bisect_left(_BOUNDS, bound) + 1])


class MetricsObserver(BaseObserver):
    """Observer that collects counts, tokens and durations of all runs that it is passed to.

    The metrics of a run are complete once `process_all` returns or `process_stream` ends.

    Example:
        metrics = MetricsObserver()
        processor = ParallelBatchProcessor(config, observers=[metrics])
        ...
        print(await metrics.export_prometheus())
    """

    def __init__(self) -> None:
        self._succeeded = self._failed = self._retries = self._rate_limits = 0
        self._input_tokens = self._output_tokens = 0
        self._paused_seconds = 0.0
        self._limit: float | None = None
        self._errors: Counter[str] = Counter()
        self._times = _Histogram()
        self._handlers = {
            ProcessingEvent.ITEM_COMPLETED: self._completed,
            ProcessingEvent.ITEM_FAILED: self._failed_item,
            ProcessingEvent.RETRY_SCHEDULED: self._retried,
            ProcessingEvent.RATE_LIMIT_HIT: self._paused,
        }

    async def on_event(self, event: ProcessingEvent, data: dict[str, Any]) -> None:
        """Count the event."""
        handler = self._handlers.get(event)
        if handler is not None:
            handler(data)

    def _completed(self, data: dict[str, Any]) -> None:
        self._succeeded += 1
        self._ended(data)

    def _failed_item(self, data: dict[str, Any]) -> None:
        self._failed += 1
        self._errors[data["category"]] += 1
        self._ended(data)

    def _retried(self, data: dict[str, Any]) -> None:
        self._retries += 1

    def _paused(self, data: dict[str, Any]) -> None:
        self._rate_limits += 1
        self._paused_seconds += data["pause"]
        self._limit = data.get("limit")

    def _ended(self, data: dict[str, Any]) -> None:
        tokens: dict[str, int] = data["tokens"]
        self._input_tokens += tokens.get("input_tokens", 0)
        self._output_tokens += tokens.get("output_tokens", 0)
        if data["attempts"]:  # an item without a call would distort the durations
            self._times.add(data["duration"])

    async def get_metrics(self) -> dict[str, Any]:
        """Return the metrics; durations are in seconds and cover the items for which a call was made.

        Keys: `items_processed`, `items_succeeded`, `items_failed`, `success_rate` (0 to 1; 0 without items),
        `avg_processing_time`, `p50_processing_time`, `p95_processing_time`, `p99_processing_time`, `retries`,
        `rate_limits` (cooldowns), `rate_limit_seconds`, `limit_per_second` (calls that a governor allowed after the
        latest cooldown, else None), `total_input_tokens`, `total_output_tokens`, `errors`
        (`{category: items}`).
        """
        processed = self._succeeded + self._failed
        times = self._times
        return {
            "items_processed": processed,
            "items_succeeded": self._succeeded,
            "items_failed": self._failed,
            "success_rate": self._succeeded / processed if processed else 0.0,
            "avg_processing_time": times.sum / times.count if times.count else 0.0,
            "p50_processing_time": times.quantile(0.50),
            "p95_processing_time": times.quantile(0.95),
            "p99_processing_time": times.quantile(0.99),
            "retries": self._retries,
            "rate_limits": self._rate_limits,
            "rate_limit_seconds": self._paused_seconds,
            "limit_per_second": self._limit,
            "total_input_tokens": self._input_tokens,
            "total_output_tokens": self._output_tokens,
            "errors": dict(self._errors),
        }

    async def export_dict(self) -> dict[str, Any]:
        """Return the metrics as a dict, the same as `get_metrics`."""
        return await self.get_metrics()

    async def export_json(self) -> str:
        """Return the metrics as a JSON object."""
        return json.dumps(await self.get_metrics(), indent=2)

    async def export_prometheus(self) -> str:
        """Return the metrics in the Prometheus text format, version 0.0.4."""
        lines = [
            *_counter(
                "items_total", "Items that ended.", {"succeeded": self._succeeded, "failed": self._failed}, "status"
            ),
            *_counter("errors_total", "Items that failed, by category.", self._errors, "category"),
            *_counter("retries_total", "Retries that were scheduled.", {"": self._retries}),
            *_counter("rate_limits_total", "Cooldowns of the whole run.", {"": self._rate_limits}),
            *_counter("rate_limit_seconds_total", "Seconds of those cooldowns.", {"": self._paused_seconds}),
            *([] if self._limit is None else _gauge("limit_per_second", "Calls that may start.", self._limit)),
            *_counter("tokens_total", "Tokens.", {"input": self._input_tokens, "output": self._output_tokens}, "kind"),
            *self._buckets("batch_llm_item_seconds"),
        ]
        return "\n".join(lines) + "\n"

    def _buckets(self, name: str) -> list[str]:
        times = self._times
        return [
            f"# HELP {name} Seconds from an item's start to its end, waits included.",
            f"# TYPE {name} histogram",
            *(f'{name}_bucket{{le="{bound:.6g}"}} {times.up_to(bound)}' for bound in _EXPORTED_BOUNDS),
            f'{name}_bucket{{le="+Inf"}} {times.count}',
            f"{name}_sum {times.sum}",
            f"{name}_count {times.count}",
        ]


def _counter(name: str, text: str, values: dict[str, int] | dict[str, float], label: str = "") -> list[str]:
    name = f"batch_llm_{name}"
    lines = [f"# HELP {name} {text}", f"# TYPE {name} counter"]
    for value, count in values.items():
        lines.append(f'{name}{{{label}="{_escaped(value)}"}} {count}' if label else f"{name} {count}")
    return lines


def _gauge(name: str, text: str, value: float) -> list[str]:
    name = f"batch_llm_{name}"
    return [f"# HELP {name} {text}", f"# TYPE {name} gauge", f"{name} {value}"]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
