"""A provider that accepts no connection: with every client, the call does not count as an attempt."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from batch_llm import LLMWorkItem, ParallelBatchProcessor
from batch_llm.jobs.models.factory import make_strategy
from tests.support.jobs import job


@pytest.fixture
def full_backlog(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Listen on a port that neither accepts nor refuses connections: its backlog is full."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(server.getsockname())
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        for name in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL"):
            monkeypatch.setenv(name, url)
        for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY"):
            monkeypatch.setenv(name, "some-key-of-mine")
        yield


@pytest.mark.usefixtures("full_backlog")
@pytest.mark.parametrize(
    "model", ["openai-chat:m", "openai:m", "anthropic:m", "google:gemini-2.5-flash", "gemini-direct:gemini-2.5-flash"]
)
async def test_connect_timeout_is_reported_as_never_sent(model: str) -> None:
    """The client's connect timeout ends before the engine's, which could not tell whether the call was sent."""
    settings = {"timeout_per_item": 2.0, "retry": {"max_attempts": 1}, "rate_limit": {"max_rate_limit_retries": 0}}
    made = job(model=model, config=settings)
    processor = ParallelBatchProcessor[None, object, None](made.config)
    await processor.add_work(LLMWorkItem("a", make_strategy(made), "prompt"))
    (result,) = (await processor.process_all()).results
    assert result.error_info is not None
    assert (result.error_info.category, result.error_info.never_sent) == ("timeout", True)
