"""OpenTelemetry spans: one per shard, with pydantic-ai's span of each call in it. Disabled by default."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from batch_llm.errors import JobError

if TYPE_CHECKING:
    from batch_llm.jobs.job import BatchJob
    from batch_llm.jobs.run_types import ShardRef

TRACES = "BATCH_LLM_TRACES"
"""Environment variable that enables spans: "logfire", "otlp", or "on" if the process has a tracer provider."""

FLUSH_MS = 5000


@contextmanager
def shard_span(job: BatchJob, shard: ShardRef) -> Generator[None]:
    """Trace a shard and its calls if tracing is enabled. Spans do not contain prompts or answers.

    Raises:
        JobError: The value of the variable is not valid, or a required package is not installed.
    """
    wanted = os.environ.get(TRACES, "")
    if not wanted:
        yield
        return
    _configure(wanted)
    from opentelemetry import trace
    from pydantic_ai import Agent
    from pydantic_ai.models.instrumented import InstrumentationSettings

    Agent.instrument_all(InstrumentationSettings(include_content=False))  # also applies to calls without an agent
    about = {"batch_llm.name": job.name, "batch_llm.model": job.model, "batch_llm.shard": shard.index}
    try:
        with trace.get_tracer("batch_llm").start_as_current_span("batch_llm.shard", attributes=about) as span:
            span.set_attribute("batch_llm.items", shard.items)
            yield
    finally:
        # A pool process exits without a shutdown hook.
        flush: Any = getattr(trace.get_tracer_provider(), "force_flush", None)
        if flush:
            flush(FLUSH_MS)


def _configure(wanted: str) -> None:
    from opentelemetry import trace

    if hasattr(trace.get_tracer_provider(), "add_span_processor"):
        return  # this process has a tracer provider
    try:
        match wanted:
            case "logfire":
                logfire: Any = import_module("logfire")
                logfire.configure(console=False)
            case "otlp":
                _export_by_otlp()
            case "on":
                pass
            case _:
                raise JobError(f"{TRACES} is {wanted!r}: set it to logfire, otlp or on")
    except ImportError as error:
        package = "logfire" if wanted == "logfire" else "opentelemetry-exporter-otlp-proto-http"
        raise JobError(f"{TRACES}={wanted} needs a package: pip install {package}") from error


def _export_by_otlp() -> None:
    """Export spans to the endpoint in OTEL_EXPORTER_OTLP_ENDPOINT."""
    from opentelemetry import trace

    sdk: Any = import_module("opentelemetry.sdk.trace")
    exporter: Any = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    processor: Any = import_module("opentelemetry.sdk.trace.export")
    provider = sdk.TracerProvider()
    provider.add_span_processor(processor.BatchSpanProcessor(exporter.OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
