"""Metrics of a run for Prometheus, on a port or in a file, as environment variables configure.

The flow's process exports the sum over all shards, from the files that the shards write.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TypeVar

from prometheus_client import CollectorRegistry, start_http_server, write_to_textfile
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob, Progress, read_progress, resolve
from batch_llm.prefect.best_effort import warn

T = TypeVar("T")

PORT, FILE = "BATCH_LLM_METRICS_PORT", "BATCH_LLM_METRICS_FILE"


class RunMetrics(Collector):
    """Prometheus collector of a run's metrics, each with the label `name`, the job's name."""

    def __init__(self, name: str, folder: str) -> None:
        self._name = name
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics from the progress files of the run's shards."""
        progress = read_progress(self._folder)
        statuses = {"succeeded": progress.succeeded, "failed": progress.failed, "reused": progress.reused}
        yield self._counter("items", "Items that are done.", statuses, "status")
        yield self._counter("errors", "Items that failed, by category.", progress.categories, "category")
        tokens = {"input": progress.input_tokens, "output": progress.output_tokens}
        yield self._counter("tokens", "Tokens.", tokens, "kind")
        yield self._counter("rate_limits", "Rate limits that started a cooldown.", {"": progress.rate_limits})
        yield self._counter("rate_limit_seconds", "Seconds of cooldowns after rate limits.", {"": progress.paused_for})
        if progress.cost_usd is not None:  # unpriced is not 0
            yield self._counter("cost_usd", "What the calls cost.", {"": progress.cost_usd})
        for name, text, value in _gauges(progress):
            family = GaugeMetricFamily(f"batch_llm_{name}", text, labels=["name"])
            family.add_metric([self._name], value)
            yield family

    def _counter(self, name: str, text: str, values: dict[str, int] | dict[str, float], label: str = "") -> Metric:
        labels = ["name", label] if label else ["name"]
        family = CounterMetricFamily(f"batch_llm_{name}", text, labels=labels)
        for value, count in values.items():
            family.add_metric([self._name, value] if label else [self._name], count)
        return family


def _gauges(progress: Progress) -> Iterator[tuple[str, str, float]]:
    yield "run_items", "Items of the run.", progress.total
    yield "run_seconds", "Seconds since the run was planned.", progress.seconds
    if progress.limit is not None:
        yield "limit_per_second", "Calls that may start.", progress.limit


class Metrics:
    """Exporter of a run's metrics to a port and a file."""

    def __init__(self, job: BatchJob, registry: CollectorRegistry) -> None:
        self._registry = registry
        given = os.environ.get(FILE)
        self._file = resolve(given.replace("{name}", job.name)) if given else None

    @classmethod
    @contextmanager
    def exported(cls, job: BatchJob, folder: str) -> Generator[Metrics]:
        """Serve the metrics of a run inside the block, and write the file at its end.

        Errors are logged as one warning, and the run continues.
        """
        registry = CollectorRegistry()
        registry.register(RunMetrics(job.name, folder))
        metrics = cls(job, registry)
        with _served(registry):
            try:
                yield metrics
            finally:
                metrics.write()

    def write(self) -> None:
        """Write the whole file again, as Prometheus' textfile collector requires."""
        if self._file and not _tried(partial(_write, self._file, self._registry)):
            self._file = None


def _write(path: Path, registry: CollectorRegistry) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(path), registry)
    return True


def _served(registry: CollectorRegistry) -> AbstractContextManager[object]:
    given = os.environ.get(PORT)
    server = _tried(lambda: _start(given, registry)) if given else None
    return closing(server) if server else nullcontext()


class _Server:
    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        self._server, self._thread = start_http_server(port, host, registry)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _start(given: str, registry: CollectorRegistry) -> _Server:
    host, _, port = given.rpartition(":")
    if not port.isdecimal():
        raise JobError(f"{PORT} is {given!r}: write 9464, or 0.0.0.0:9464 for other machines")
    return _Server(host or "127.0.0.1", int(port), registry)


def _tried(work: Callable[[], T]) -> T | None:
    try:
        return work()
    except (OSError, JobError, OverflowError) as error:  # the port is taken, the disk is full
        warn("No metrics for Prometheus: %s", error)
        return None
