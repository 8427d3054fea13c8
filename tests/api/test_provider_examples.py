"""The reference's examples that need a provider, with today's names, against one on loopback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from google import genai
from google.genai.types import Content
from pydantic import BaseModel
from pydantic_ai import Agent

from batch_llm import (
    GeminiCachedStrategy,
    GeminiStrategy,
    LLMWorkItem,
    MetricsObserver,
    ParallelBatchProcessor,
    ProcessorConfig,
    PydanticAIStrategy,
)
from tests.support.servers import GeminiServer, OpenAIServer


@pytest.fixture(autouse=True)
def openai(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        yield server


@pytest.fixture
def gemini(monkeypatch: pytest.MonkeyPatch) -> Iterator[GeminiServer]:
    with GeminiServer(least_cache_tokens=10) as server:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        monkeypatch.setenv("GEMINI_API_KEY", "k")
        yield server


class Summary(BaseModel):
    title: str
    summary: str


async def test_work_item_example_runs() -> None:
    agent = Agent("openai-chat:gpt-4", output_type=Summary)
    strategy = PydanticAIStrategy(agent=agent)
    work_item = LLMWorkItem[None, Summary, dict[str, int]](
        item_id="task_1", strategy=strategy, prompt="Analyze this text...", context={"user_id": 123}
    )
    async with agent, ParallelBatchProcessor[None, Summary, dict[str, int]](ProcessorConfig()) as processor:
        await processor.add_work(work_item)
        (result,) = (await processor.process_all()).results
    assert result.success
    assert result.output == Summary(title="Analyze this text...", summary="Analyze this text...")
    assert result.context == {"user_id": 123}


async def test_pydantic_ai_example_runs(openai: OpenAIServer) -> None:
    class BookSummary(BaseModel):
        title: str
        summary: str

    agent = Agent("openai-chat:gpt-4", output_type=BookSummary)
    strategy = PydanticAIStrategy(agent=agent)
    work_item = LLMWorkItem[None, BookSummary, None](
        item_id="book_1", strategy=strategy, prompt="Summarize: The Great Gatsby..."
    )
    processor = ParallelBatchProcessor[None, BookSummary, None](config=ProcessorConfig())
    async with agent:
        await processor.add_work(work_item)
        result = await processor.process_all()
    assert isinstance(result.results[0].output, BookSummary)
    assert openai.prompts == {"Summarize: The Great Gatsby...": 1}


async def test_gemini_example_runs(gemini: GeminiServer) -> None:
    client = genai.Client(api_key=os.getenv("GEMINI_API_KEY"))

    def parse_response(response: Any) -> str:
        return response.text

    strategy = GeminiStrategy(model="gemini-2.0-flash-exp", client=client, response_parser=parse_response)
    work_item = LLMWorkItem[None, str, None](item_id="task_1", strategy=strategy, prompt="Explain quantum computing")
    async with ParallelBatchProcessor[None, str, None](config=ProcessorConfig()) as processor:
        await processor.add_work(work_item)
        result = await processor.process_all()
    await client.aio.aclose()
    client.close()
    assert result.results[0].output == "Explain quantum computing"
    assert result.results[0].gemini_safety_ratings == {"HARM_CATEGORY_HARASSMENT": "NEGLIGIBLE"}
    assert gemini.calls[0].path.endswith("/models/gemini-2.0-flash-exp:generateContent")


async def test_gemini_cache_example_runs(gemini: GeminiServer) -> None:
    client = genai.Client(api_key=os.getenv("GEMINI_API_KEY"))
    large_document = "word " * 2000
    parts: Any = [{"text": "You are a helpful assistant."}]
    document: Any = [{"text": large_document}]
    cached_content = [Content(role="system", parts=parts), Content(role="user", parts=document)]
    strategy: GeminiCachedStrategy[str] = GeminiCachedStrategy(
        model="gemini-2.0-flash-exp",
        client=client,
        response_parser=lambda r: r.text,
        cached_content=cached_content,
        cache_ttl_seconds=3600,
    )
    async with ParallelBatchProcessor[None, str, None](config=ProcessorConfig()) as processor:
        # Reuse strategy across multiple work items to benefit from caching
        for i in range(100):
            work_item = LLMWorkItem[None, str, None](
                item_id=f"task_{i}",
                strategy=strategy,  # Same strategy, shared cache
                prompt=f"Question {i} about the document",
            )
            await processor.add_work(work_item)
        result = await processor.process_all()
    await client.aio.aclose()
    client.close()
    assert result.succeeded == 100
    assert {each.token_usage["cached_input_tokens"] for each in result.results} == {2005}
    assert (gemini.shelf.made, gemini.shelf.caches) == (1, {})


async def test_complete_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    config = ProcessorConfig(max_workers=10, timeout_per_item=60.0, max_queue_size=100)
    agent = Agent("openai-chat:gpt-4", output_type=Summary)
    strategy = PydanticAIStrategy(agent=agent)
    metrics = MetricsObserver()
    async with agent, ParallelBatchProcessor[None, Summary, None](config=config, observers=[metrics]) as processor:
        for i in range(50):
            work_item = LLMWorkItem[None, Summary, None](
                item_id=f"doc_{i}", strategy=strategy, prompt=f"Summarize document {i}..."
            )
            await processor.add_work(work_item)
        result = await processor.process_all()
        print(f"Completed: {result.succeeded}/{result.total_items}")
        print(f"Tokens used: {result.total_input_tokens + result.total_output_tokens}")
        metrics_data = await metrics.get_metrics()
        print(f"Average processing time: {metrics_data['avg_processing_time']:.2f}s")
    completed, tokens, average = capsys.readouterr().out.splitlines()
    assert completed == "Completed: 50/50"
    assert int(tokens.removeprefix("Tokens used: ")) > 50 * 3
    assert average.startswith("Average processing time: ")
