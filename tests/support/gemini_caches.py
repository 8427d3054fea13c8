"""Caches of the Gemini server: created, listed, extended, deleted, and expired.

Times are those of the server's clock (`clock_offset` seconds ahead), so that a client that uses its own clock fails.
Texts of errors are those of the service: https://ai.google.dev/api/caching
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from .loopback import Call, Json, tokens

Refusal = tuple[int, str]

_GONE: Refusal = (403, "CachedContent not found (or permission denied)")


@dataclass
class Cache:
    """One cache of the server."""

    name: str
    model: str
    display_name: str
    token_count: int
    created: datetime
    expires: datetime

    def as_json(self, now: datetime) -> Json:
        """Return the cache in the API's format."""
        return {
            "name": self.name,
            "model": self.model,
            "displayName": self.display_name,
            "createTime": _stamp(self.created),
            "updateTime": _stamp(now),
            "expireTime": _stamp(self.expires),
            "usageMetadata": {"totalTokenCount": self.token_count},
        }


@dataclass
class CacheShelf:
    """All caches of one server.

    Attributes:
        least_tokens: A smaller cache is refused.
        clock_offset: Seconds by which the server's clock is ahead of ours.
        caches: Those that were made and not deleted, by name.
        made: How many were ever made.
    """

    least_tokens: int
    clock_offset: float = 0.0
    caches: dict[str, Cache] = field(default_factory=dict[str, Cache])
    made: int = 0

    def expire(self) -> None:
        """Expire all caches."""
        for cache in self.caches.values():
            cache.expires = self._now()

    def living(self) -> list[str]:
        """Return the names of caches that are neither deleted nor expired."""
        return [name for name in self.caches if self._alive(name)]

    def tokens(self, name: str | None) -> int:
        """Count the tokens that a call reads from this cache."""
        cache = self.caches.get(name or "")
        return cache.token_count if cache else 0

    def refusal(self, name: str, path: str) -> Refusal | None:
        """Return why a call at `path` may not use this cache, or None if it may."""
        cache = self._alive(name)
        if cache is None:
            return _GONE
        if f"/{cache.model}:" not in path:
            return 400, f"Model used by GenerateContent request and CachedContent ({cache.model}) has to be the same."
        return None

    def answer(self, call: Call) -> Json | Refusal:
        """Serve one call of the caches' API."""
        if call.kind == "cache.create":
            return self._create(call.body)
        if call.kind == "cache.list":
            return {"cachedContents": [cache.as_json(self._now()) for cache in self.caches.values()]}
        cache = self._alive("cachedContents/" + call.path.rpartition("/")[2])
        if cache is None:
            return _GONE
        if call.kind == "cache.delete":
            del self.caches[cache.name]
            return {}
        if call.kind == "cache.patch":
            cache.expires = self._expiry(call.body)
        return cache.as_json(self._now())

    def _create(self, body: Json) -> Json | Refusal:
        contents: list[Json] = [*body.get("contents", []), body.get("systemInstruction") or {}]
        count = sum(tokens(part.get("text", "")) for content in contents for part in content.get("parts", []))
        if count < self.least_tokens:
            least = f"total_token_count={count}, min_total_token_count={self.least_tokens}"
            return 400, f"Cached content is too small. {least}"
        self.made += 1
        name = f"cachedContents/c{self.made}"
        expires = self._expiry(body)
        self.caches[name] = Cache(name, body["model"], body.get("displayName", ""), count, self._now(), expires)
        return self.caches[name].as_json(self._now())

    def _alive(self, name: str) -> Cache | None:
        cache = self.caches.get(name)
        return cache if cache is not None and cache.expires > self._now() else None

    def _expiry(self, body: Json) -> datetime:
        return self._now() + timedelta(seconds=float(body["ttl"].removesuffix("s")))

    def _now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.clock_offset)


def _stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
