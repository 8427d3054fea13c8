"""What the calls of a run have found out about their server, for the calls and the shards that follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

_OWN_HOSTS = ("openai.com", "azure.com")
"""OpenAI's own API, and Azure's: both know what OpenAI's documentation says."""


class ServerFacts:
    """A few facts, such as how a server takes a schema; each is learned once.

    Args:
        known: What an earlier shard of the run has learned.
        keep: Is given all facts whenever there is a new one, for the shards that follow; None to keep none.
    """

    def __init__(self, known: Mapping[str, str] | None = None, keep: Callable[[dict[str, str]], None] | None = None):
        self._known = dict(known or {})
        self._keep = keep

    def get(self, name: str) -> str | None:
        """Return a fact; None where it is not known."""
        return self._known.get(name)

    def learn(self, name: str, value: str) -> None:
        """Note a fact."""
        if self._known.get(name) != value:
            self._known[name] = value
            if self._keep is not None:
                self._keep(dict(self._known))


def compatible_server(model: Any) -> str | None:
    """Return the address of a server that speaks OpenAI's API and is not OpenAI's; None for every other provider."""
    if not any(cls.__name__ == "OpenAIChatModel" for cls in type(model).__mro__):
        return None
    address = str(model.base_url)
    host = urlsplit(address).hostname or ""
    return None if any(host == own or host.endswith(f".{own}") for own in _OWN_HOSTS) else address


def refuses(error: Exception, *words: str) -> bool:
    """Whether a provider's error refuses a request for something that it names in one of these words.

    A bad key, a rate limit, a timeout refuse no part of a request, whatever they quote of it.
    """
    status = getattr(error, "status_code", None)
    if not isinstance(status, int) or status < 400 or status in (401, 402, 403, 408, 409, 425, 429, 498, 502, 503, 504):
        return False
    text = str(error).lower()
    return any(word in text for word in words)
