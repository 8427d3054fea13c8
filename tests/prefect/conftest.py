"""Fixtures of flow tests: documents, a provider on loopback, the flow in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.support.servers import OpenAIServer

Serve: TypeAlias = Callable[..., OpenAIServer]
FlowOver: TypeAlias = Callable[..., Callable[..., Any]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Serve OpenAI's API to the runs of this process: `serve(latency=0.1)`."""
    with ExitStack() as stack:

        def start(**how: Any) -> OpenAIServer:
            server = stack.enter_context(OpenAIServer(**how))
            monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
            monkeypatch.setenv("OPENAI_API_KEY", "test-key-that-is-no-secret")
            return server

        yield start


@pytest.fixture
def flow_over(prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FlowOver:
    """Return a function: `flow_over(texts, **settings)(**more)` runs the flow and returns its last state."""
    from tests.support.flow_file import load_flow

    monkeypatch.setenv("BATCH_LLM_HOME", str(tmp_path))

    def over(texts: Iterable[str], *, retries: int = 0, **settings: Any) -> Callable[..., Any]:
        docs = ({"id": f"d{place}", "text": text} for place, text in enumerate(texts))
        (tmp_path / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
        common = {"source": "docs.jsonl", "output": "out.jsonl", **settings}

        def call(**more: Any) -> Any:
            return load_flow().with_options(retries=retries)(**(common | more), return_state=True)

        return call

    return over
