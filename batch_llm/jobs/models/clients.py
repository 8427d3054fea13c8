"""HTTP clients of a job's calls, with a connection pool that is large enough for its workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import httpx2
from aiohttp import ClientConnectorError, ClientResponseError
from openai import DefaultAioHttpClient
from pydantic_ai.models import Model, infer_model
from pydantic_ai.providers import Provider, infer_provider_class

from batch_llm.config import ProcessorConfig
from batch_llm.errors import RedirectRefused
from batch_llm.jobs.provider_addresses import loopback_patterns

from .readable_replies import normalized_reply
from .reply_usage import with_normalized_usage
from .response_limits import ENCODINGS, LARGE_AT_ONCE, address_of, bound
from .wrappers import latest_reply

if TYPE_CHECKING:
    from google import genai

Client = AbstractAsyncContextManager[Any]
HeadersCallback = Callable[[Mapping[str, str]], None]

READ_SECONDS = 600.0
"""Read timeout of the client. The engine limits the duration of a call as a whole."""

CONNECT_SECONDS = 30.0
"""Connect timeout. An event loop that is busy starting calls delays connections; the usual 5 s would fail calls of a
healthy service."""

LATE_SECONDS = 5.0
"""Added to the engine's timeout of an item, so that the engine is the first to end a call."""

MOST_REDIRECTS = 5


class _AiohttpClient(DefaultAioHttpClient):
    """HTTP client over aiohttp that limits response sizes, refuses redirects to other hosts and reports actual errors.

    The transport in openai 3.54 raises `ConnectTimeout` for every connection that aiohttp could not open or keep, also
    for refused and reset ones, and reports errors of aiohttp's parser as a status of the server. google-genai 2.34
    disables the timeout of a request unless it is configured with one timeout for everything.

    Attributes:
        on_headers: Called with the headers of every response.
        seconds: Maximum time until the last byte of an answer; longer than the engine's timeout of a call.
    """

    on_headers: HeadersCallback | None = None
    seconds: float = READ_SECONDS

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)

    def build_request(self, method: str, url: httpx2.URL | str, **options: Any) -> httpx2.Request:
        if options.get("timeout") is None:
            options["timeout"] = httpx2.USE_CLIENT_DEFAULT
        return super().build_request(method, url, **options)

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        options["follow_redirects"] = False
        try:
            async with asyncio.timeout(self.seconds):
                response = await self._send_following_redirects(request, options)
                try:
                    bound(response, self._large)
                    if not stream:
                        await response.aread()
                except BaseException:
                    await response.aclose()
                    raise
        except TimeoutError as error:
            late = f"no complete answer within {self.seconds:g} s"
            raise httpx2.ReadTimeout(late, request=request) from error
        except httpx2.ConnectTimeout as error:
            raise _actual_error(error, request) from error.__cause__
        except ClientResponseError as error:  # from aiohttp's parser; a status of the server is a response
            broken = f"the answer is not valid HTTP: {' '.join(error.message.split())[:200]}"
            raise httpx2.RemoteProtocolError(
                broken, request=request
            ) from None  # its status would look like the server's
        if self.on_headers is not None:
            self.on_headers(response.headers)
        if stream:
            if response.is_error or "event-stream" in response.headers.get("content-type", ""):
                return response
            await response.aread()  # not a stream, although one was requested
        if response.is_success:
            latest_reply.set(response)
        return with_normalized_usage(normalized_reply(response))

    async def _send_following_redirects(self, request: httpx2.Request, options: dict[str, Any]) -> httpx2.Response:
        """Return the response after following redirects within the host of the request."""
        for _ in range(MOST_REDIRECTS):
            response = await super().send(request, stream=True, **options)
            onward = response.next_request
            if onward is None:
                return response
            await response.aclose()
            if not _is_same_host(request.url, onward.url):
                raise RedirectRefused(
                    f"{address_of(request.url)} redirects to {address_of(onward.url)}, and prompts are only sent to "
                    "the configured host: if the new address is right, set the provider's *_BASE_URL to it"
                )
            request = onward
        raise httpx2.TooManyRedirects(f"more than {MOST_REDIRECTS} redirects", request=request)


def _actual_error(error: httpx2.ConnectTimeout, request: httpx2.Request) -> httpx2.TransportError:
    if isinstance(error.__cause__, TimeoutError):
        return error
    refused = isinstance(error.__cause__, ClientConnectorError)
    broken = httpx2.ConnectError if refused else httpx2.ReadError
    return broken(str(error), request=request)


def _is_same_host(asked: httpx2.URL, onward: httpx2.URL) -> bool:
    """Return whether a redirect stays at the same host; it may switch from http to https, but not back."""
    if asked.host != onward.host:
        return False
    return (asked.scheme, asked.port) == (onward.scheme, onward.port) or (asked.scheme, onward.scheme) == (
        "http",
        "https",
    )


def http_client(config: ProcessorConfig, on_headers: HeadersCallback | None = None) -> httpx2.AsyncClient:
    """Return an httpx2 client over aiohttp with a connection for each worker.

    With httpx's own transport a call takes 1.5 times the CPU, and more with the square of the open connections. With
    fewer connections than workers, workers would wait for each other. The connect timeout is shorter than the engine's
    timeout of a call, so the engine knows that such a call was never sent.

    Args:
        config: Settings of the engine.
        on_headers: Called with the headers of every response.
    """
    limits = httpx2.Limits(max_connections=config.max_workers, max_keepalive_connections=config.max_workers)
    connect = min(CONNECT_SECONDS, config.timeout_per_item / 2)
    client = _AiohttpClient(
        limits=limits,
        timeout=httpx2.Timeout(READ_SECONDS, connect=connect),
        headers={"Accept-Encoding": ", ".join(ENCODINGS)},
        mounts=dict.fromkeys(loopback_patterns()),
    )
    client.on_headers = on_headers
    client.seconds = config.timeout_per_item + LATE_SECONDS
    return client


def google_client(
    config: ProcessorConfig, on_headers: HeadersCallback | None = None, key: str | None = None
) -> tuple[genai.Client, Client]:
    """Return a client for the Gemini API with retries disabled, and its HTTP client, which the caller opens and closes.

    Args:
        config: Settings of the engine.
        on_headers: Called with the headers of every response.
        key: API key; None for the one in the environment.
    """
    from google import genai  # takes most of a second of CPU, which jobs with other models save
    from google.genai.types import HttpOptions, HttpRetryOptions

    http, once = http_client(config, on_headers), HttpRetryOptions(attempts=1)
    options = HttpOptions(httpx_async_client=http, retry_options=once)
    return genai.Client(vertexai=False, api_key=key, http_options=options), http


def model_and_client(
    name: str, config: ProcessorConfig, on_headers: HeadersCallback | None = None
) -> tuple[Model, Client]:
    """Return the pydantic-ai model of a name, and the client to open before the calls and to close after them.

    A provider whose package has its own client, such as bedrock and github, is called through that: responses may have
    any size, redirects to other hosts are followed, and replies in odd shapes are not read.

    Args:
        name: Name of the form "provider:model".
        config: Settings of the engine.
        on_headers: Called with the headers of every response, if the provider's client is an httpx2 client.

    Raises:
        ValueError: The provider is unknown.
        pydantic_ai.exceptions.UserError: A key is missing.
        ImportError: The provider's package is not installed.
    """
    provider_name = name.partition(":")[0]
    if provider_name == "google":
        return _google(name, config, on_headers)
    # A gateway creates the provider of its upstream and adds its own hooks to the client.
    kind = Provider if provider_name.startswith("gateway/") else infer_provider_class(provider_name)
    if not _takes_httpx2(kind):
        model = infer_model(name)
        return model, model
    http = http_client(config, on_headers)
    make: Any = kind
    return infer_model(name, lambda _: make(http_client=http)), http


def without_streaming(model: Model, settings: Mapping[str, Any], config: ProcessorConfig) -> Mapping[str, Any]:
    """Return model settings with which pydantic-ai requests a whole answer from Anthropic instead of a stream.

    Without `max_tokens` it sends the largest value that the model allows, and reads a stream then. A stream takes seven
    times the CPU time, and its end can be lost without an error. The value that is sent stays the same. Calls that may
    take longer than ten minutes stay streams, because networks drop idle connections.

    Args:
        model: Model of the job.
        settings: Model settings of the job.
        config: Settings of the engine.
    """
    most = model.profile.get("anthropic_max_output_tokens") if model.system == "anthropic" else None
    has_lower_default = bool(model.profile.get("anthropic_rejects_max_tokens_beyond_context_window"))
    if most is None or has_lower_default or "max_tokens" in settings or config.timeout_per_item > READ_SECONDS:
        return settings
    return {**settings, "max_tokens": most}


def _google(name: str, config: ProcessorConfig, on_headers: HeadersCallback | None) -> tuple[Model, Client]:
    from pydantic_ai.providers.google import GoogleProvider

    client, http = google_client(config, on_headers)
    return infer_model(name, lambda _: GoogleProvider(client=client)), http


def _takes_httpx2(kind: type[Provider[Any]]) -> bool:
    try:
        hints = get_type_hints(kind.__init__)
    except NameError:  # the hint names a package that is not installed: httpx, the predecessor of httpx2
        return False
    return httpx2.AsyncClient in get_args(hints.get("http_client"))
