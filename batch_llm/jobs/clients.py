"""The clients that a job's calls go through: built where it runs, wide enough for its workers, and ours to close."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import httpx2
from aiohttp import ClientConnectorError
from openai import DefaultAioHttpClient
from pydantic_ai.models import Model, infer_model
from pydantic_ai.providers import Provider, infer_provider_class

if TYPE_CHECKING:
    from google import genai

Client = AbstractAsyncContextManager[Any]
Hear = Callable[[Mapping[str, str]], None]

# A loop that is busy with starting calls looks like a slow network to a client that waits for its connection; the
# usual 5 s would fail calls of a healthy service. What a call may take in all is the engine's to bound.
_TIMEOUT = httpx2.Timeout(600, connect=30)


class _AiohttpClient(DefaultAioHttpClient):
    """Tells a broken connection from one that took too long.

    The transport in openai 3.54 says `ConnectTimeout` of every connection that aiohttp could not make or keep, refused
    and reset ones too.

    Attributes:
        hear: Is shown the headers of every response.
    """

    hear: Hear | None = None

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        try:
            response = await super().send(request, **options)
        except httpx2.ConnectTimeout as error:
            if isinstance(error.__cause__, TimeoutError):
                raise
            refused = isinstance(error.__cause__, ClientConnectorError)
            broken = httpx2.ConnectError if refused else httpx2.ReadError
            raise broken(str(error), request=request) from error.__cause__
        if self.hear is not None:
            self.hear(response.headers)
        return response


def http_client(connections: int, hear: Hear | None = None) -> httpx2.AsyncClient:
    """Return a client for what is built on httpx2, over aiohttp, with room for so many connections at once.

    With httpx's own transport a call is half as dear again, and dearer with the square of the open connections. A pool
    that is smaller than the number of workers would make them wait for each other, unseen.

    Args:
        connections: How many there may be.
        hear: Is shown the headers of every response.
    """
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    client = _AiohttpClient(limits=limits, timeout=_TIMEOUT)
    client.hear = hear
    return client


def google_client(key: str | None = None) -> genai.Client:
    """Return a client for the Gemini API: over aiohttp, without a limit of connections, without retries of its own.

    Args:
        key: The API key; None for the one in the environment.
    """
    from google import genai  # most of a second of CPU, which other models' jobs need not spend
    from google.genai.types import HttpOptions, HttpRetryOptions

    once = HttpRetryOptions(attempts=1)
    return genai.Client(vertexai=False, api_key=key, http_options=HttpOptions(retry_options=once))


def model_and_client(name: str, connections: int, hear: Hear | None = None) -> tuple[Model, Client]:
    """Return the model that pydantic-ai knows by this name, and the client to open before calls and to close after.

    Args:
        name: "provider:model".
        connections: How many calls there may be at once.
        hear: Is shown the headers of every response, where the provider's client is one of ours.

    Raises:
        ValueError: The provider is unknown.
        pydantic_ai.exceptions.UserError: A key is missing.
        ImportError: The provider's package is not installed.
    """
    provider_name = name.partition(":")[0]
    if provider_name == "google":
        return _google(name)
    # A gateway makes its upstream's provider with hooks of its own in the client.
    kind = Provider if provider_name.startswith("gateway/") else infer_provider_class(provider_name)
    if not _takes_httpx2(kind):
        model = infer_model(name)
        return model, model
    http = http_client(connections, hear)
    make: Any = kind
    return infer_model(name, lambda _: make(http_client=http)), http


def _google(name: str) -> tuple[Model, Client]:
    from pydantic_ai.providers.google import GoogleProvider

    client = google_client()
    return infer_model(name, lambda _: GoogleProvider(client=client)), client.aio


def _takes_httpx2(kind: type[Provider[Any]]) -> bool:
    try:
        hints = get_type_hints(kind.__init__)
    except NameError:  # the hint is of a package that is not installed: httpx, which came before httpx2
        return False
    return httpx2.AsyncClient in get_args(hints.get("http_client"))
