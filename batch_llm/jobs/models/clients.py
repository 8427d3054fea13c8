"""The clients that a job's calls go through: built where it runs, wide enough for its workers, and ours to close."""

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

if TYPE_CHECKING:
    from google import genai

Client = AbstractAsyncContextManager[Any]
HeadersCallback = Callable[[Mapping[str, str]], None]

READ_SECONDS = 600.0
"""What a call may take in all is the engine's to bound."""

CONNECT_SECONDS = 30.0
"""A loop that is busy with starting calls looks like a slow network to a client that waits for its connection; the
usual 5 s would fail calls of a healthy service."""

LATE_SECONDS = 5.0
MOST_REDIRECTS = 5


class _AiohttpClient(DefaultAioHttpClient):
    """Bounds what is read, keeps prompts at the host that they are meant for, and names what went wrong as it was.

    The transport in openai 3.54 says `ConnectTimeout` of every connection that aiohttp could not make or keep, refused
    and reset ones too, and passes on what aiohttp's parser says of a broken answer as a status of the server's.
    google-genai 2.34 asks for no timeout at all where it was not given a single one for everything.

    Attributes:
        on_headers: Is shown the headers of every response.
        seconds: Until the last byte of an answer; more than the engine gives a call, which so is the first to end it.
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
            late = f"no whole answer within {self.seconds:g} s"
            raise httpx2.ReadTimeout(late, request=request) from error
        except httpx2.ConnectTimeout as error:
            raise _actual_error(error, request) from error.__cause__
        except ClientResponseError as error:  # aiohttp's parser; whatever the server says is a response
            broken = f"the answer is not valid HTTP: {' '.join(error.message.split())[:200]}"
            raise httpx2.RemoteProtocolError(broken, request=request) from None  # its status would be the server's
        if self.on_headers is not None:
            self.on_headers(response.headers)
        return response if stream else with_normalized_usage(normalized_reply(response))

    async def _send_following_redirects(self, request: httpx2.Request, options: dict[str, Any]) -> httpx2.Response:
        """Return the response, after redirects within the host that was asked."""
        for _ in range(MOST_REDIRECTS):
            response = await super().send(request, stream=True, **options)
            onward = response.next_request
            if onward is None:
                return response
            await response.aclose()
            if not _is_same_host(request.url, onward.url):
                raise RedirectRefused(
                    f"{address_of(request.url)} redirects to {address_of(onward.url)}, and prompts go to no other host "
                    "than the one that is set: set the provider's *_BASE_URL to where it leads, if that is right"
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
    """Whether a redirect stays at the host that was asked; it may go from http to https there, but not back."""
    if asked.host != onward.host:
        return False
    return (asked.scheme, asked.port) == (onward.scheme, onward.port) or (asked.scheme, onward.scheme) == (
        "http",
        "https",
    )


def http_client(config: ProcessorConfig, on_headers: HeadersCallback | None = None) -> httpx2.AsyncClient:
    """Return a client for what is built on httpx2, over aiohttp, with room for an engine's calls.

    With httpx's own transport a call is half as dear again, and dearer with the square of the open connections. A pool
    that is smaller than the number of workers would make them wait for each other, unseen. It gives up on a connection
    before the engine gives up on the call, which then is known as one that was never sent.

    Args:
        config: The engine's settings.
        on_headers: Is shown the headers of every response.
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
    """Return a client for the Gemini API without retries of its own, and what it calls through, to open and to close.

    Args:
        config: The engine's settings.
        on_headers: Is shown the headers of every response.
        key: The API key; None for the one in the environment.
    """
    from google import genai  # most of a second of CPU, which other models' jobs need not spend
    from google.genai.types import HttpOptions, HttpRetryOptions

    http, once = http_client(config, on_headers), HttpRetryOptions(attempts=1)
    options = HttpOptions(httpx_async_client=http, retry_options=once)
    return genai.Client(vertexai=False, api_key=key, http_options=options), http


def model_and_client(
    name: str, config: ProcessorConfig, on_headers: HeadersCallback | None = None
) -> tuple[Model, Client]:
    """Return the model that pydantic-ai knows by this name, and the client to open before calls and to close after.

    Args:
        name: "provider:model".
        config: The engine's settings.
        on_headers: Is shown the headers of every response, where the provider's client is one of ours.

    Raises:
        ValueError: The provider is unknown.
        pydantic_ai.exceptions.UserError: A key is missing.
        ImportError: The provider's package is not installed.
    """
    provider_name = name.partition(":")[0]
    if provider_name == "google":
        return _google(name, config, on_headers)
    # A gateway makes its upstream's provider with hooks of its own in the client.
    kind = Provider if provider_name.startswith("gateway/") else infer_provider_class(provider_name)
    if not _takes_httpx2(kind):
        model = infer_model(name)
        return model, model
    http = http_client(config, on_headers)
    make: Any = kind
    return infer_model(name, lambda _: make(http_client=http)), http


def _google(name: str, config: ProcessorConfig, on_headers: HeadersCallback | None) -> tuple[Model, Client]:
    from pydantic_ai.providers.google import GoogleProvider

    client, http = google_client(config, on_headers)
    return infer_model(name, lambda _: GoogleProvider(client=client)), http


def _takes_httpx2(kind: type[Provider[Any]]) -> bool:
    try:
        hints = get_type_hints(kind.__init__)
    except NameError:  # the hint is of a package that is not installed: httpx, which came before httpx2
        return False
    return httpx2.AsyncClient in get_args(hints.get("http_client"))
