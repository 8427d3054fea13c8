"""Spans of OpenTelemetry, one per shard and one per call, if tracing is configured."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic_ai import Agent

from batch_llm.jobs import plan, run_shard
from batch_llm.jobs.execution.tracing import TRACES, shard_span
from tests.support.jobs import job, write_lines
from tests.support.servers import OpenAIServer


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Iterator[InMemorySpanExporter]:
    exporter.clear()
    yield exporter
    Agent.instrument_all(False)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "test-key-that-is-no-secret")
        yield server


async def _shard(home: Path) -> None:
    write_lines(home / "docs.jsonl", *({"id": name, "text": f"secret plan {name}"} for name in "abc"))
    traced = job(model="openai-chat:gpt-4.1-mini", name="nightly")
    made = plan(traced, "r")
    with shard_span(traced, made.shards[0]):
        outcome = await run_shard(traced, made.folder, made.shards[0])
    assert outcome.succeeded == 3


async def test_shard_span_contains_a_span_per_call(
    home: Path, provider: OpenAIServer, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans have the model and tokens, but neither prompts nor answers."""
    monkeypatch.setenv(TRACES, "on")
    await _shard(home)
    found: tuple[ReadableSpan, ...] = spans.get_finished_spans()
    (shard,) = [span for span in found if span.name == "batch_llm.shard"]
    calls = [span for span in found if span.parent and shard.context and span.parent.span_id == shard.context.span_id]
    assert dict(shard.attributes or {})["batch_llm.name"] == "nightly"
    assert len(calls) == len(found) - 1 == 3
    attributes = [dict(call.attributes or {}) for call in calls]
    assert {str(attribute["gen_ai.request.model"]) for attribute in attributes} == {"gpt-4.1-mini"}
    assert all(int(str(attribute["gen_ai.usage.input_tokens"])) > 0 for attribute in attributes)
    assert "secret plan" not in str([span.to_json() for span in found])


async def test_nothing_is_traced_by_default(
    home: Path, provider: OpenAIServer, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TRACES, raising=False)
    await _shard(home)
    assert spans.get_finished_spans() == ()
    assert provider.requests == 3


CHECKOUT = Path(__file__).parents[3]
TRACED = """
import asyncio, pathlib
from tests.jobs.execution.test_tracing import _shard
asyncio.run(_shard(pathlib.Path("{home}")))
"""


@pytest.mark.whole
def test_spans_reach_a_collector_by_otlp(home: Path, provider: OpenAIServer) -> None:
    """Also from a process that ends at once, in the HTTP format of OpenTelemetry's collector."""
    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = Thread(target=collector.serve_forever)
        thread.start()
        try:
            own = {TRACES: "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"}
            script = TRACED.format(home=home)
            env = {**os.environ, **own, "BATCH_LLM_HOME": str(home)}
            subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, env=env, check=True, timeout=120)
        finally:
            collector.shutdown()
            thread.join()
    sent = [ExportTraceServiceRequest.FromString(body) for body in bodies]
    spans = [
        span for each in sent for place in each.resource_spans for scope in place.scope_spans for span in scope.spans
    ]
    (shard,) = [span for span in spans if span.name == "batch_llm.shard"]
    assert sum(span.parent_span_id == shard.span_id for span in spans) == 3
    assert b"secret plan" not in b"".join(bodies)
