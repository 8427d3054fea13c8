"""`GeminiCachedStrategy` over HTTP: one cache for all items, deleted at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google import genai
from google.genai.errors import APIError
from google.genai.types import Content, GenerateContentConfig, HttpOptions, HttpRetryOptions, Part, Tool, ToolConfig

from batch_llm import BatchResult, GeminiCachedStrategy, LLMWorkItem, ParallelBatchProcessor, ProcessorConfig
from batch_llm.classifiers import DefaultErrorClassifier
from batch_llm.errors import ErrorInfo
from tests.support import refusals
from tests.support.call_outcome import attempt, final, retryable
from tests.support.servers import HANG, RESET, GeminiServer, Reply

BOOK = "a long book of at least ten words, so that it is worth a cache"
CONTEXT = [
    Content(role="system", parts=[Part(text="You answer questions.")]),
    Content(role="user", parts=[Part(text=BOOK)]),
]
CACHED_TOKENS = len(BOOK.split()) + 3


@pytest.fixture
async def client(gemini_server: GeminiServer) -> AsyncIterator[genai.Client]:
    options = HttpOptions(base_url=gemini_server.url, retry_options=HttpRetryOptions(attempts=1))
    made = genai.Client(api_key="k", http_options=options)
    yield made
    await made.aio.aclose()
    made.close()


def cached(client: genai.Client, **options: Any) -> GeminiCachedStrategy[str]:
    return GeminiCachedStrategy("gemini-2.5-flash", client, lambda response: response.text, CONTEXT, **options)


async def run(strategy: GeminiCachedStrategy[str], items: int, workers: int = 20) -> BatchResult[str, None]:
    config = ProcessorConfig(max_workers=workers)
    async with ParallelBatchProcessor[None, str, None](config) as processor:
        for index in range(items):
            await processor.add_work(LLMWorkItem(f"item {index}", strategy, f"question {index}"))
        return await processor.process_all()


async def test_all_items_share_one_cache(gemini_server: GeminiServer, client: genai.Client) -> None:
    """100 items on 20 workers share one cache, which is deleted at the end; each result has its cached tokens."""
    result = await run(cached(client), 100)
    assert (result.succeeded, gemini_server.kinds["generate"]) == (100, 100)
    assert (gemini_server.shelf.made, gemini_server.shelf.caches) == (1, {})
    assert {item.token_usage["cached_input_tokens"] for item in result.results} == {CACHED_TOKENS}
    assert result.total_input_tokens == gemini_server.input_tokens
    assert result.results[7].output == "question 7"
    assert result.results[7].gemini_safety_ratings == {"HARM_CATEGORY_HARASSMENT": "NEGLIGIBLE"}


async def test_instructions_and_tools_are_in_the_cache(gemini_server: GeminiServer, client: genai.Client) -> None:
    """`role="system"`, the config's instruction and tools are in the cache and not in the calls."""
    tools: list[Any] = [Tool(google_search={})]  # pyright: ignore[reportArgumentType]  coerced by pydantic
    tool_config = ToolConfig(include_server_side_tool_invocations=True)
    config = GenerateContentConfig(
        system_instruction="Be brief.", tools=tools, tool_config=tool_config, temperature=0.5
    )
    await run(cached(client, config=config), 1)
    made, call = (next(c for c in gemini_server.calls if c.kind == kind) for kind in ("cache.create", "generate"))
    texts = [part["text"] for part in made.body["systemInstruction"]["parts"]]
    assert (texts, made.body["ttl"]) == (["You answer questions.", "Be brief."], "3600s")
    assert [content["role"] for content in made.body["contents"]] == ["user"]
    assert {"tools", "toolConfig"} <= set(made.body)
    assert not {"systemInstruction", "tools", "toolConfig"} & set(call.body)
    assert call.body["generationConfig"]["temperature"] == 0.5


@pytest.mark.sample(1)
@pytest.mark.parametrize("offset", [-7200.0, 0.0, 7200.0])
async def test_cache_is_extended_before_it_expires(
    gemini_server: GeminiServer, client: genai.Client, offset: float
) -> None:
    """When little of its time is left, one worker extends it for all, whatever the local clock shows."""
    gemini_server.shelf.clock_offset = offset
    strategy = cached(client, cache_ttl_seconds=20, cache_refresh_threshold=0.95)  # due after a second
    await strategy.prepare()
    assert (await attempt(strategy)).info is None
    assert gemini_server.kinds["cache.patch"] == 0
    await asyncio.sleep(1.05)
    outcomes = await asyncio.gather(*(attempt(strategy) for _ in range(10)))
    await strategy.cleanup()
    assert [outcome.info for outcome in outcomes] == [None] * 10
    assert (gemini_server.shelf.made, gemini_server.kinds["cache.patch"]) == (1, 1)


async def test_cache_is_extended_repeatedly(gemini_server: GeminiServer, client: genai.Client) -> None:
    """The new lifetime begins when the cache is extended, not when it was created."""
    strategy = cached(client, cache_ttl_seconds=2, cache_refresh_threshold=0.5)
    await strategy.prepare()
    for prolonged in (1, 2):
        await asyncio.sleep(1.05)
        assert (await attempt(strategy)).info is None
        assert gemini_server.kinds["cache.patch"] == prolonged
    await strategy.cleanup()
    assert (gemini_server.shelf.made, gemini_server.shelf.caches) == (1, {})


async def test_cache_that_expires_during_a_run_is_created_again(
    gemini_server: GeminiServer, client: genai.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """A cache that the server no longer has is created again once, for all refused calls together."""

    def expire_half_way(_: object) -> None:
        if gemini_server.kinds["generate"] == 20:
            gemini_server.shelf.expire()

    gemini_server.rule = expire_half_way
    result = await run(cached(client), 60)
    assert (result.succeeded, gemini_server.shelf.made) == (60, 2)
    assert gemini_server.shelf.living() == []
    assert max(item.attempts for item in result.results) == 1
    assert "could not be deleted" not in caplog.text  # what expired needs no deleting


async def test_403_with_a_new_cache_is_an_auth_failure(gemini_server: GeminiServer, client: genai.Client) -> None:
    """A call that is refused again with a new cache is an auth failure, and both caches are deleted."""
    gemini_server.script(*[GeminiServer.error(403, "The caller does not have permission")] * 2)
    strategy = cached(client)
    await strategy.prepare()
    assert (await attempt(strategy)).info == final("auth")
    await strategy.cleanup()
    assert (gemini_server.shelf.made, gemini_server.shelf.caches) == (2, {})


@pytest.mark.sample(2)
@pytest.mark.parametrize(("reply", "info"), [(reply, info) for reply, info in refusals.GEMINI if reply is not HANG])
async def test_errors_of_calls_with_a_cache_are_classified(
    gemini_server: GeminiServer, client: genai.Client, reply: Reply, info: ErrorInfo
) -> None:
    """A failed call costs no tokens and one request, or a second with a new cache if the old one may be gone."""
    strategy = cached(client)
    await strategy.prepare()
    gemini_server.script(reply, reply)
    outcome = await attempt(strategy)
    await strategy.cleanup()
    requests = 2 if reply.status == 404 else 1
    assert (outcome.info, gemini_server.kinds["generate"], outcome.spent) == (info, requests, (0, 0))
    assert (gemini_server.shelf.made, gemini_server.shelf.caches) == (requests, {})


@pytest.mark.sample(1)
@pytest.mark.parametrize("reply", [GeminiServer.error(404, "Not found"), GeminiServer.error(403, "Not found")])
async def test_cache_that_is_gone_when_extended_is_created_again(
    gemini_server: GeminiServer, client: genai.Client, reply: Reply
) -> None:
    """A cache that is gone when it should be extended is created again."""
    strategy = cached(client, cache_ttl_seconds=1, cache_refresh_threshold=0.99)
    await strategy.prepare()
    gemini_server.script(reply, on="cache.patch")
    await asyncio.sleep(0.02)
    assert (await attempt(strategy)).info is None
    await strategy.cleanup()
    assert (gemini_server.shelf.made, gemini_server.shelf.caches) == (2, {})


async def test_failure_to_extend_a_cache_does_not_fail_calls(
    gemini_server: GeminiServer, client: genai.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """If a cache cannot be extended now, the next try is later, and calls continue."""
    strategy = cached(client, cache_ttl_seconds=60, cache_refresh_threshold=0.9999)
    await strategy.prepare()
    gemini_server.script(GeminiServer.server_error(), on="cache.patch")
    await asyncio.sleep(0.02)
    outcomes = [await attempt(strategy) for _ in range(3)]
    await strategy.cleanup()
    assert [outcome.info for outcome in outcomes] == [None] * 3
    assert gemini_server.kinds["cache.patch"] == 1
    assert "could not be extended" in caplog.text


async def test_cache_that_expired_on_the_local_clock_is_created_again(
    gemini_server: GeminiServer, client: genai.Client
) -> None:
    """An expired cache is created again without a request to extend it."""
    strategy = cached(client, cache_ttl_seconds=1, cache_refresh_threshold=0)
    await strategy.prepare()
    await asyncio.sleep(1.1)
    assert (await attempt(strategy)).info is None
    await strategy.cleanup()
    assert gemini_server.kinds == {"cache.create": 2, "generate": 1, "cache.delete": 2}
    assert gemini_server.shelf.living() == []


async def test_attempt_that_times_out_while_creating_a_cache_leaves_none(
    gemini_server: GeminiServer, client: genai.Client
) -> None:
    """An attempt that times out while the cache is created again leaves no cache."""
    strategy = cached(client)
    await strategy.prepare()
    gemini_server.shelf.expire()
    gemini_server.script(Reply(delay=1.5), on="cache.create")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await attempt(strategy)
    await strategy.cleanup()
    assert gemini_server.shelf.made == 2
    assert gemini_server.shelf.living() == []


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "message", ["Cached content is too small.", "The cached content is of 3 tokens. The minimum token count is 1024."]
)
async def test_too_small_context_is_recognised_for_both_services(
    gemini_server: GeminiServer, client: genai.Client, message: str
) -> None:
    """The Gemini API and Vertex AI have different messages; the config's tools are then sent with every call."""
    gemini_server.script(GeminiServer.error(400, message), on="cache.create")
    tools: list[Any] = [Tool(google_search={})]  # pyright: ignore[reportArgumentType]  coerced by pydantic
    strategy = cached(client, config=GenerateContentConfig(tools=tools))
    gemini_server.script(gemini_server.text("fine"))
    await strategy.prepare()
    assert (await attempt(strategy)).output == "fine"
    await strategy.cleanup()
    assert gemini_server.kinds == {"cache.create": 1, "generate": 1}
    assert "tools" in gemini_server.calls[-1].body


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("reply", "info"),
    [
        (GeminiServer.error(400, "Unsupported MIME type"), final("invalid_request")),
        (GeminiServer.error(403, "The minimum token count is a secret"), final("auth")),
        (GeminiServer.rate_limit(7), retryable("rate_limit", 7.0)),
        (GeminiServer.quota(), final("quota_exhausted")),
    ],
)
async def test_error_of_a_refused_cache_fails_the_attempt(
    gemini_server: GeminiServer, client: genai.Client, reply: Reply, info: ErrorInfo
) -> None:
    """For any other reason, the attempt fails with the cache's error, and no call is made."""
    gemini_server.script(reply, on="cache.create")
    with pytest.raises(APIError) as caught:
        await cached(client).prepare()
    assert DefaultErrorClassifier().classify(caught.value) == info
    assert gemini_server.kinds == {"cache.create": 1}


async def test_context_below_the_minimum_size_is_sent_with_every_call(
    gemini_server: GeminiServer, client: genai.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """A context below the model's minimum size is sent with every call, and a warning is logged once."""
    gemini_server.shelf.least_tokens = 1000
    result = await run(cached(client), 10)
    assert (result.succeeded, gemini_server.kinds["cache.create"], gemini_server.shelf.made) == (10, 1, 0)
    assert result.results[0].token_usage["input_tokens"] == CACHED_TOKENS + 2
    body = gemini_server.calls[-1].body
    assert body["contents"][0]["parts"][0]["text"] == BOOK
    assert body["systemInstruction"]["parts"] == [{"text": "You answer questions."}]
    assert [r.levelname for r in caplog.records if "too small" in r.message] == ["WARNING"]


@pytest.mark.sample(1)
@pytest.mark.parametrize("reply", [GeminiServer.server_error(), RESET])
async def test_a_failed_delete_is_logged(
    gemini_server: GeminiServer, client: genai.Client, caplog: pytest.LogCaptureFixture, reply: Reply
) -> None:
    """A cache that cannot be deleted fails no item, and its name is logged."""
    gemini_server.script(reply, reply, on="cache.delete")  # aiohttp sends a DELETE again on a connection that was reset
    assert (await run(cached(client), 3)).succeeded == 3
    assert "cachedContents/c1 could not be deleted" in caplog.text


async def test_consecutive_runs_have_their_own_caches(gemini_server: GeminiServer, client: genai.Client) -> None:
    """Each run has its own cache, and none is left."""
    strategy = cached(client)
    results = [await run(strategy, 5), await run(strategy, 5)]
    assert [result.succeeded for result in results] == [5, 5]
    assert (gemini_server.shelf.made, gemini_server.shelf.caches) == (2, {})


async def test_concurrent_runs_share_a_cache(gemini_server: GeminiServer, client: genai.Client) -> None:
    """Runs that share the strategy share its cache, which the last one deletes."""
    strategy, gemini_server.latency = cached(client), 0.02
    results = await asyncio.gather(run(strategy, 4, 4), run(strategy, 20, 2))
    assert [result.succeeded for result in results] == [4, 20]
    assert (gemini_server.shelf.made, gemini_server.shelf.caches) == (1, {})
    assert max(item.attempts for result in results for item in result.results) == 1


async def test_failed_creation_is_retried_with_the_item(gemini_server: GeminiServer, client: genai.Client) -> None:
    """The next attempt of an item creates the cache if the first could not."""
    gemini_server.script(GeminiServer.rate_limit(0.01), on="cache.create")
    result = await run(cached(client), 3)
    assert (result.succeeded, gemini_server.shelf.made, gemini_server.shelf.caches) == (3, 1, {})


async def test_cancelled_run_deletes_its_cache(gemini_server: GeminiServer, client: genai.Client) -> None:
    """A run that is cancelled between calls deletes its cache."""
    gemini_server.latency = 0.05
    running = asyncio.create_task(run(cached(client), 100, workers=2))
    await gemini_server.saw(3)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (gemini_server.shelf.made, gemini_server.shelf.caches) == (1, {})


async def test_run_cancelled_while_creating_a_cache_deletes_it(
    gemini_server: GeminiServer, client: genai.Client
) -> None:
    """If a run is cancelled while its cache is created, the cache is awaited and deleted."""
    gemini_server.script(Reply(delay=0.2), on="cache.create")
    running = asyncio.create_task(run(cached(client), 3))
    await gemini_server.saw(1, "cache.create")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (gemini_server.shelf.made, gemini_server.shelf.caches) == (1, {})


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "options",
    [
        *({"cache_ttl_seconds": odd} for odd in (0, -1, True, 0.5, float("inf"), float("nan"))),
        *({"cache_refresh_threshold": odd} for odd in (1.0, -0.1, False, float("nan"))),
    ],
)
def test_invalid_settings_are_refused(options: dict[str, Any]) -> None:
    """An invalid duration or threshold is refused at construction."""
    made = genai.Client(api_key="k")
    with pytest.raises(ValueError, match="must be"):
        cached(made, **options)
    made.close()


async def test_contents_and_config_may_be_dicts(gemini_server: GeminiServer, client: genai.Client) -> None:
    context: Any = [each.model_dump(exclude_none=True) for each in CONTEXT]
    config: Any = {"temperature": 0.5, "system_instruction": "Be brief."}
    strategy = GeminiCachedStrategy[str](
        "gemini-2.5-flash", client, lambda response: response.text, context, config=config
    )
    assert (await run(strategy, 3)).succeeded == 3
    assert (gemini_server.shelf.made, gemini_server.shelf.caches) == (1, {})
