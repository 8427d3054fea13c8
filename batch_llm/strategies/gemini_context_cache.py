"""Lifecycle of a Gemini context cache: created, extended, created again, deleted.

    none --name()--> live --refresh due--> live (extended)
                     live --the server no longer knows it--> none --> live (created again)
    none --too small for the model--> off: calls continue without a cache
    any  --close()--> none, and nothing remains on the server

Source: https://ai.google.dev/gemini-api/docs/caching
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google import genai
    from google.genai.errors import APIError
    from google.genai.types import CachedContent, CreateCachedContentConfig

log = logging.getLogger(__name__)

_UNDO_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Lease:
    """Cache that expires at `ends` and is extended from `refresh_from` on, both on the local monotonic clock."""

    name: str
    refresh_from: float
    ends: float


class ContextCache:
    """One cache on the server, shared by all calls of a strategy.

    Args:
        client: Client to use.
        model: Model that uses the cache; a cache serves one model only.
        config: Content of the cache, with its `ttl`.
        ttl_seconds: The `ttl` as a number of seconds.
        refresh_threshold: Share of the lifetime below which the cache is extended before the next call.
    """

    def __init__(
        self,
        client: genai.Client,
        model: str,
        config: CreateCachedContentConfig,
        *,
        ttl_seconds: int,
        refresh_threshold: float,
    ) -> None:
        self._caches = client.aio.caches
        self._model = model
        self._config = config
        self._ttl_seconds = ttl_seconds
        self._refresh_threshold = refresh_threshold
        self._lease: _Lease | None = None
        self._off = False
        self._made: list[str] = []
        # Workers that find the cache due at the same moment would each create or extend one.
        self._one_at_a_time = asyncio.Lock()

    async def name(self) -> str | None:
        """Return the name of the cache, created or extended if necessary; None if the content is too small to cache."""
        if not self._is_due():
            return self._lease and self._lease.name
        async with self._one_at_a_time:
            if self._is_due():
                await self._renew()
        return self._lease and self._lease.name

    async def replace(self, stale: str) -> str | None:
        """Return a cache other than `stale`, which the server rejected: one that was created since, or a new one."""
        async with self._one_at_a_time:
            if self._lease is not None and self._lease.name == stale:
                self._lease = await self._make()
        return await self.name()

    async def close(self) -> None:
        """Delete every cache that was created; a cache that cannot be deleted is logged."""
        self._lease, made = None, self._made
        self._made = []
        for name in made:
            await self._delete(name)

    def _is_due(self) -> bool:
        return not self._off and (self._lease is None or monotonic() >= self._lease.refresh_from)

    async def _renew(self) -> None:
        lease = self._lease
        self._lease = await (self._prolong(lease) if lease and monotonic() < lease.ends else self._make())

    async def _make(self) -> _Lease | None:
        from google.genai.errors import APIError

        asked = monotonic()
        try:
            cache = await self._create()
        except APIError as error:
            if not _is_too_small(error):
                raise
            self._off = True
            log.warning("The content is too small for a Gemini cache (%s); calls continue without one.", error.message)
            return None
        return self._lease_of(cache, asked)

    async def _create(self) -> CachedContent:
        """Create a cache; if cancelled, wait for its name, which only the response contains, and delete it."""
        making = asyncio.ensure_future(self._caches.create(model=self._model, config=self._config))
        try:
            cache = await asyncio.shield(making)
        except asyncio.CancelledError:
            await asyncio.wait([making], timeout=_UNDO_SECONDS)
            if not making.cancel() and making.exception() is None:
                await self._delete(making.result().name or "")
            raise
        self._made.append(cache.name or "")
        return cache

    async def _prolong(self, lease: _Lease) -> _Lease | None:
        from google.genai.errors import APIError

        asked = monotonic()
        try:
            cache = await self._caches.update(name=lease.name, config={"ttl": self._config.ttl})
        except APIError as error:
            if is_gone(error):
                return await self._make()
            log.warning("The Gemini cache %s could not be extended: %s", lease.name, error)
            # Try again after half of the remaining time, not with every call.
            return _Lease(lease.name, refresh_from=asked + (lease.ends - asked) / 2, ends=lease.ends)
        return self._lease_of(cache, asked)

    def _lease_of(self, cache: CachedContent, asked: float) -> _Lease:
        """Return the lease of a cache, with its lifetime from server timestamps, as the local clock may be wrong."""
        lifetime = float(self._ttl_seconds)
        if cache.expire_time and (since := cache.update_time or cache.create_time):
            lifetime = (cache.expire_time - since).total_seconds()
        ends = asked + lifetime
        return _Lease(cache.name or "", refresh_from=ends - self._refresh_threshold * lifetime, ends=ends)

    async def _delete(self, name: str) -> None:
        from google.genai.errors import APIError

        try:
            await self._caches.delete(name=name)
        except Exception as error:
            if isinstance(error, APIError) and is_gone(error):
                return
            log.warning("The Gemini cache %s could not be deleted and is billed until it expires: %s", name, error)


def is_gone(error: APIError) -> bool:
    """Return whether the cache no longer exists: 404, or 403 "CachedContent not found (or permission denied)"."""
    return error.code in (403, 404)


def _is_too_small(error: APIError) -> bool:
    """Return whether the content is below the model's minimum; the messages of the Gemini API and Vertex AI differ."""
    message = (error.message or "").lower()
    return error.code == 400 and ("too small" in message or "minimum token count" in message)
