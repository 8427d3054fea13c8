"""`GeminiCachedStrategy` over HTTP: one cache, however many items, and none left behind."""

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


async def test_one_cache_for_all(gemini_server: GeminiServer, client: genai.Client) -> None:
    """100 items on 20 workers share one cache; it is deleted at the end, and every item tells its cached tokens."""
    result = await run(cached(client), 100)
    assert (result.succeeded, gemini_server.kinds["generate"]) == (100, 100)
    assert (gemini_server.shelf.made, gemini_server.shelf.caches) == (1, {})
    assert {item.token_usage["cached_input_tokens"] for item in result.results} == {CACHED_TOKENS}
    assert result.total_input_tokens == gemini_server.input_tokens
    assert result.results[7].output == "question 7"
    assert result.results[7].gemini_safety_ratings == {"HARM_CATEGORY_HARASSMENT": "NEGLIGIBLE"}


async def test_what_goes_into_the_cache(gemini_server: GeminiServer, client: genai.Client) -> None:
    """`role="system"`, the config's own instruction and its tools go into the cache; calls carry none of them."""
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


@pytest.mark.parametrize("offset", [-7200.0, 0.0, 7200.0])
async def test_prolonged_before_it_expires(gemini_server: GeminiServer, client: genai.Client, offset: float) -> None:
    """When little of its time is left, one worker prolongs it for all, whatever our clock says of the server's."""
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


async def test_prolonged_again_and_again(gemini_server: GeminiServer, client: genai.Client) -> None:
    """A cache that was prolonged lives from then on, not from when it was made."""
    strategy = cached(client, cache_ttl_seconds=2, cache_refresh_threshold=0.5)
    await strategy.prepare()
    for prolonged in (1, 2):
        await asyncio.sleep(1.05)
        assert (await attempt(strategy)).info is None
        assert gemini_server.kinds["cache.patch"] == prolonged
    await strategy.cleanup()
    assert (gemini_server.shelf.made, gemini_server.shelf.caches) == (1, {})


async def test_expiry_in_the_middle_of_a_run(
    gemini_server: GeminiServer, client: genai.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """A cache that the server no longer knows is made again once, for however many calls that were refused."""

    def expire_half_way(_: object) -> None:
        if gemini_server.kinds["generate"] == 20:
            gemini_server.shelf.expire()

    gemini_server.rule = expire_half_way
    result = await run(cached(client), 60)
    assert (result.succeeded, gemini_server.shelf.made) == (60, 2)
    assert gemini_server.shelf.living() == []
    assert max(item.attempts for item in result.results) == 1
    assert "could not be deleted" not in caplog.text  # what expired needs no deleting


async def test_a_403_that_is_no_cachess_fault(gemini_server: GeminiServer, client: genai.Client) -> None:
    """Refused again with a new cache, a call is an auth failure, and both caches are deleted."""
    gemini_server.script(*[GeminiServer.error(403, "The caller does not have permission")] * 2)
    strategy = cached(client)
    await strategy.prepare()
    assert (await attempt(strategy)).info == final("auth")
    await strategy.cleanup()
    assert (gemini_server.shelf.made, gemini_server.shelf.caches) == (2, {})


@pytest.mark.parametrize(("reply", "info"), [(reply, info) for reply, info in refusals.GEMINI if reply is not HANG])
async def test_errors_of_calls(
    gemini_server: GeminiServer, client: genai.Client, reply: Reply, info: ErrorInfo
) -> None:
    """What fails costs no tokens and one request, or a second with a new cache where the old may be gone."""
    strategy = cached(client)
    await strategy.prepare()
    gemini_server.script(reply, reply)
    outcome = await attempt(strategy)
    await strategy.cleanup()
    requests = 2 if reply.status == 404 else 1
    assert (outcome.info, gemini_server.kinds["generate"], outcome.spent) == (info, requests, (0, 0))
    assert (gemini_server.shelf.made, gemini_server.shelf.caches) == (requests, {})


@pytest.mark.parametrize("reply", [GeminiServer.error(404, "Not found"), GeminiServer.error(403, "Not found")])
async def test_gone_when_it_is_prolonged(gemini_server: GeminiServer, client: genai.Client, reply: Reply) -> None:
    """A cache that is gone when it is to be prolonged is made again."""
    strategy = cached(client, cache_ttl_seconds=1, cache_refresh_threshold=0.99)
    await strategy.prepare()
    gemini_server.script(reply, on="cache.patch")
    await asyncio.sleep(0.02)
    assert (await attempt(strategy)).info is None
    await strategy.cleanup()
    assert (gemini_server.shelf.made, gemini_server.shelf.caches) == (2, {})


async def test_prolonging_fails(
    gemini_server: GeminiServer, client: genai.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that cannot prolong a living cache now is asked again later; the calls go on."""
    strategy = cached(client, cache_ttl_seconds=60, cache_refresh_threshold=0.9999)
    await strategy.prepare()
    gemini_server.script(GeminiServer.server_error(), on="cache.patch")
    await asyncio.sleep(0.02)
    outcomes = [await attempt(strategy) for _ in range(3)]
    await strategy.cleanup()
    assert [outcome.info for outcome in outcomes] == [None] * 3
    assert gemini_server.kinds["cache.patch"] == 1
    assert "could not be extended" in caplog.text


async def test_expired_by_our_own_clock(gemini_server: GeminiServer, client: genai.Client) -> None:
    """A cache whose time is over is made again, without asking the server to prolong it."""
    strategy = cached(client, cache_ttl_seconds=1, cache_refresh_threshold=0)
    await strategy.prepare()
    await asyncio.sleep(1.1)
    assert (await attempt(strategy)).info is None
    await strategy.cleanup()
    assert gemini_server.kinds == {"cache.create": 2, "generate": 1, "cache.delete": 2}
    assert gemini_server.shelf.living() == []


async def test_too_slow_to_be_made_again(gemini_server: GeminiServer, client: genai.Client) -> None:
    """An attempt whose time is over while the cache is made again leaves none behind."""
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


@pytest.mark.parametrize(
    "message", ["Cached content is too small.", "The cached content is of 3 tokens. The minimum token count is 1024."]
)
async def test_too_small_in_either_service_s_words(
    gemini_server: GeminiServer, client: genai.Client, message: str
) -> None:
    """The Gemini API and Vertex AI say it differently; the config's tools then go with every call."""
    gemini_server.script(GeminiServer.error(400, message), on="cache.create")
    tools: list[Any] = [Tool(google_search={})]  # pyright: ignore[reportArgumentType]  coerced by pydantic
    strategy = cached(client, config=GenerateContentConfig(tools=tools))
    gemini_server.script(gemini_server.text("fine"))
    await strategy.prepare()
    assert (await attempt(strategy)).output == "fine"
    await strategy.cleanup()
    assert gemini_server.kinds == {"cache.create": 1, "generate": 1}
    assert "tools" in gemini_server.calls[-1].body


@pytest.mark.parametrize(
    ("reply", "info"),
    [
        (GeminiServer.error(400, "Unsupported MIME type"), final("invalid_request")),
        (GeminiServer.error(403, "The minimum token count is a secret"), final("auth")),
        (GeminiServer.rate_limit(7), retryable("rate_limit", 7.0)),
        (GeminiServer.quota(), final("quota_exhausted")),
    ],
)
async def test_a_cache_that_is_refused(
    gemini_server: GeminiServer, client: genai.Client, reply: Reply, info: ErrorInfo
) -> None:
    """For any other reason, what refused the cache is what the attempt fails with, and no call is made."""
    gemini_server.script(reply, on="cache.create")
    with pytest.raises(APIError) as caught:
        await cached(client).prepare()
    assert DefaultErrorClassifier().classify(caught.value) == info
    assert gemini_server.kinds == {"cache.create": 1}


async def test_too_small(gemini_server: GeminiServer, client: genai.Client, caplog: pytest.LogCaptureFixture) -> None:
    """A context below the model's least size is sent with every call instead, and the log says so once."""
    gemini_server.shelf.least_tokens = 1000
    result = await run(cached(client), 10)
    assert (result.succeeded, gemini_server.kinds["cache.create"], gemini_server.shelf.made) == (10, 1, 0)
    assert result.results[0].token_usage["input_tokens"] == CACHED_TOKENS + 2
    body = gemini_server.calls[-1].body
    assert body["contents"][0]["parts"][0]["text"] == BOOK
    assert body["systemInstruction"]["parts"] == [{"text": "You answer questions."}]
    assert [r.levelname for r in caplog.records if "too small" in r.message] == ["WARNING"]


@pytest.mark.parametrize("reply", [GeminiServer.server_error(), RESET])
async def test_a_failed_delete_is_logged(
    gemini_server: GeminiServer, client: genai.Client, caplog: pytest.LogCaptureFixture, reply: Reply
) -> None:
    """A cache that cannot be deleted fails nothing; the log names it."""
    gemini_server.script(reply, reply, on="cache.delete")  # aiohttp sends a DELETE again on a connection that was reset
    assert (await run(cached(client), 3)).succeeded == 3
    assert "cachedContents/c1 could not be deleted" in caplog.text


async def test_two_runs_one_after_another(gemini_server: GeminiServer, client: genai.Client) -> None:
    """Each run has a cache of its own, and none is left."""
    strategy = cached(client)
    results = [await run(strategy, 5), await run(strategy, 5)]
    assert [result.succeeded for result in results] == [5, 5]
    assert (gemini_server.shelf.made, gemini_server.shelf.caches) == (2, {})


async def test_two_runs_at_once(gemini_server: GeminiServer, client: genai.Client) -> None:
    """Runs that share the strategy share its cache; the one that ends first leaves it to the other."""
    strategy, gemini_server.latency = cached(client), 0.02
    results = await asyncio.gather(run(strategy, 4, 4), run(strategy, 20, 2))
    assert [result.succeeded for result in results] == [4, 20]
    assert (gemini_server.shelf.made, gemini_server.shelf.caches) == (1, {})
    assert max(item.attempts for result in results for item in result.results) == 1


async def test_a_failed_create_is_tried_again(gemini_server: GeminiServer, client: genai.Client) -> None:
    """An item whose attempt could not make the cache makes it in its next attempt."""
    gemini_server.script(GeminiServer.rate_limit(0.01), on="cache.create")
    result = await run(cached(client), 3)
    assert (result.succeeded, gemini_server.shelf.made, gemini_server.shelf.caches) == (3, 1, {})


async def test_cancelled_while_it_runs(gemini_server: GeminiServer, client: genai.Client) -> None:
    """A run that is cancelled between calls deletes its cache."""
    gemini_server.latency = 0.05
    running = asyncio.create_task(run(cached(client), 100, workers=2))
    await gemini_server.saw(3)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (gemini_server.shelf.made, gemini_server.shelf.caches) == (1, {})


async def test_cancelled_while_the_cache_is_made(gemini_server: GeminiServer, client: genai.Client) -> None:
    """The cache that is being made when a run is cancelled is waited for and deleted."""
    gemini_server.script(Reply(delay=0.2), on="cache.create")
    running = asyncio.create_task(run(cached(client), 3))
    await gemini_server.saw(1, "cache.create")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (gemini_server.shelf.made, gemini_server.shelf.caches) == (1, {})


@pytest.mark.parametrize(
    "options",
    [
        *({"cache_ttl_seconds": odd} for odd in (0, -1, True, 0.5, float("inf"), float("nan"))),
        *({"cache_refresh_threshold": odd} for odd in (1.0, -0.1, False, float("nan"))),
    ],
)
def test_settings_are_checked(options: dict[str, Any]) -> None:
    """A time or a threshold that cannot work is refused at once."""
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
