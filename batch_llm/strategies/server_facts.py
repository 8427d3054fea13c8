"""Facts that the calls of a run have learned about their server, for later calls and shards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

_OWN_HOSTS = ("openai.com", "azure.com")
"""Hosts of OpenAI and Azure, which support everything that OpenAI documents."""


class ServerFacts:
    """Facts about a server, such as the output mode that it supports; each is learned once.

    Args:
        known: Facts that earlier shards of the run have learned.
        keep: Function called with all facts whenever one is added, to save them for later shards; None to save nothing.
    """

    def __init__(self, known: Mapping[str, str] | None = None, keep: Callable[[dict[str, str]], None] | None = None):
        self._known = dict(known or {})
        self._keep = keep

    def get(self, name: str) -> str | None:
        """Return the value of a fact; None if it is unknown."""
        return self._known.get(name)

    def learn(self, name: str, value: str) -> None:
        """Record a fact, and save it if it is new."""
        if self._known.get(name) != value:
            self._known[name] = value
            if self._keep is not None:
                self._keep(dict(self._known))


def compatible_server(model: Any) -> str | None:
    """Return the address of an OpenAI-compatible server; None for OpenAI itself and every other provider."""
    if not any(cls.__name__ == "OpenAIChatModel" for cls in type(model).__mro__):
        return None
    address = str(model.base_url)
    host = urlsplit(address).hostname or ""
    return None if any(host == own or host.endswith(f".{own}") for own in _OWN_HOSTS) else address


def refuses(error: Exception, *words: str) -> bool:
    """Return whether an error rejects a request because of something that it names with one of these words.

    A wrong key, a rate limit or a timeout is never such a rejection, whatever its message quotes.
    """
    status = getattr(error, "status_code", None)
    if not isinstance(status, int) or status < 400 or status in (401, 402, 403, 408, 409, 425, 429, 498, 502, 503, 504):
        return False
    text = str(error).lower()
    return any(word in text for word in words)
