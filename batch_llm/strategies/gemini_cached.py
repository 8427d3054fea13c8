"""Strategy that calls Gemini with a long shared context, which is sent once and cached by Gemini."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .base import LLMCallStrategy, TOutput
from .gemini import generate, read_response
from .gemini_context_cache import ContextCache, is_gone

if TYPE_CHECKING:
    from google import genai
    from google.genai.types import (
        Content,
        ContentDict,
        CreateCachedContentConfig,
        GenerateContentConfig,
        GenerateContentConfigDict,
        GenerateContentResponse,
    )

# Gemini rejects these in a call that refers to a cache; they are put into the cache.
_IN_THE_CACHE = ("system_instruction", "tools", "tool_config")


class GeminiCachedStrategy(LLMCallStrategy[TOutput]):
    """Strategy that sends `cached_content` before each prompt, billed at Gemini's price for cached tokens.

    One cache serves all items that share the instance, so use one instance for all items. The cache is created before
    the first call, extended when less than `cache_refresh_threshold` of its lifetime is left, created again when the
    server no longer knows it, and deleted at the end of the run. Its age is computed from the server's timestamps. A
    context that is too small for a cache (the minimum differs by model) is sent with every call instead, and a warning
    is logged. Gemini bills the creation and storage of the cache separately; no item's token usage contains them.

    Otherwise, it behaves like `GeminiStrategy`.

    Args:
        model: Model name; a cache serves one model only.
        client: Client to use; the strategy does not close it.
        response_parser: Function that turns a `GenerateContentResponse` into the output.
        cached_content: Context that every call starts with. Parts of `role="system"` become the system instruction,
            because the service knows only the roles "user" and "model". Dicts of the same shape are accepted too.
        cache_ttl_seconds: Lifetime of the cache in seconds, unless it is extended.
        cache_refresh_threshold: Share of the lifetime below which the cache is extended: 0 or more, and less than 1.
        config: Temperature, response schema, ..., also as a dict; its system instruction and tools go into the cache.

    Raises:
        ValueError: `cache_ttl_seconds` or `cache_refresh_threshold` is out of range.

    Example:
        manual = [Content(role="user", parts=[Part(text=open("manual.txt").read())])]
        strategy = GeminiCachedStrategy(
            "gemini-3.8-flash", client, response_parser=lambda response: response.text, cached_content=manual
        )
    """

    def __init__(
        self,
        model: str,
        client: genai.Client,
        response_parser: Callable[[Any], TOutput],
        cached_content: list[Content] | list[ContentDict],
        cache_ttl_seconds: int = 3600,
        cache_refresh_threshold: float = 0.1,
        config: GenerateContentConfig | GenerateContentConfigDict | None = None,
    ) -> None:
        if type(cache_ttl_seconds) is not int or cache_ttl_seconds <= 0:
            rule = "it must be an integer greater than 0: 3600 is an hour"
            raise ValueError(f"cache_ttl_seconds is {cache_ttl_seconds!r}; {rule}")
        if isinstance(cache_refresh_threshold, bool) or not 0 <= cache_refresh_threshold < 1:
            rule = "it must be 0 or more and less than 1: 0.1 refreshes in the last tenth of the cache's lifetime"
            raise ValueError(f"cache_refresh_threshold is {cache_refresh_threshold!r}; {rule}")
        self.model = model
        self.client = client
        self.response_parser = response_parser
        self.cached_content = cached_content
        self.cache_ttl_seconds = cache_ttl_seconds
        self.cache_refresh_threshold = cache_refresh_threshold
        self.config = config
        self._cache: ContextCache | None = None
        self._runs = 0  # number of runs that share the cache; the last one deletes it

    async def prepare(self) -> None:
        """Create the cache, or share that of another run in progress."""
        self._cache = self._cache or self._new_cache()
        self._runs += 1
        try:
            await self._cache.name()
        except BaseException:
            await self.cleanup()
            raise

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[TOutput, dict[str, int]]:
        """Make one request, and a second one if the server no longer knew the cache."""
        return read_response(await self._request(prompt), self.response_parser, lambda: self._context_text() + prompt)

    async def cleanup(self) -> None:
        """Delete the cache, unless another run still uses it."""
        self._runs = max(0, self._runs - 1)
        if self._runs == 0 and self._cache is not None:
            cache, self._cache = self._cache, None
            await cache.close()

    async def _request(self, prompt: str) -> GenerateContentResponse:
        from google.genai.errors import APIError

        if self._cache is None:
            raise RuntimeError("GeminiCachedStrategy has no cache; call prepare() before execute()")
        name = await self._cache.name()
        try:
            return await self._generate(prompt, name)
        except APIError as error:
            if name is None or not is_gone(error):
                raise
            return await self._generate(prompt, await self._cache.replace(name))

    async def _generate(self, prompt: str, cache: str | None) -> GenerateContentResponse:
        from google.genai.types import Content, GenerateContentConfig, Part

        config = self._settings() or GenerateContentConfig()
        question = Content(role="user", parts=[Part(text=prompt)])
        if cache is None:
            contents = [*self._turns(), question]
            config = config.model_copy(update={"system_instruction": self._system_instruction()})
        else:
            contents = [question]
            config = config.model_copy(update={**dict.fromkeys(_IN_THE_CACHE), "cached_content": cache})
        return await generate(self.client, self.model, contents, config)

    def _new_cache(self) -> ContextCache:
        return ContextCache(
            self.client,
            self.model,
            self._cache_config(),
            ttl_seconds=self.cache_ttl_seconds,
            refresh_threshold=self.cache_refresh_threshold,
        )

    def _cache_config(self) -> CreateCachedContentConfig:
        from google.genai.types import CreateCachedContentConfig

        own: Any = self._settings()
        return CreateCachedContentConfig(
            contents=self._turns(),
            system_instruction=self._system_instruction(),
            tools=own and own.tools,
            tool_config=own and own.tool_config,
            ttl=f"{self.cache_ttl_seconds}s",
            display_name="batch-llm",
        )

    def _turns(self) -> list[Any]:
        return [content for content in self._contents() if content.role != "system"]

    def _system_instruction(self) -> list[Any] | None:
        """Return the parts of `role="system"`, then those of the config's instruction; None if there are none."""
        config: Any = self._settings()
        own: Any = config and config.system_instruction
        own = getattr(own, "parts", own) or []
        parts: list[Any] = [
            part for content in self._contents() if content.role == "system" for part in content.parts or []
        ]
        return [*parts, *(own if isinstance(own, list) else [own])] or None  # pyright: ignore[reportUnknownArgumentType]

    def _context_text(self) -> str:
        """Return the text of the cached content, from which missing token counts are estimated."""
        return "".join(part.text or "" for content in self._contents() for part in content.parts or [])

    def _settings(self) -> GenerateContentConfig | None:
        """Return the config, converted from a dict if necessary."""
        from google.genai.types import GenerateContentConfig

        return GenerateContentConfig.model_validate(self.config) if isinstance(self.config, dict) else self.config

    def _contents(self) -> list[Content]:
        """Return the cached content, converted from the other forms that the SDK accepts: dicts, parts, strings."""
        given: Any = self.cached_content
        return [_content(each) for each in (given if isinstance(given, list | tuple) else [given])]  # pyright: ignore[reportUnknownVariableType]


def _content(given: Any) -> Content:
    from google.genai.types import Content, Part

    if isinstance(given, str):
        return Content(role="user", parts=[Part(text=given)])
    if isinstance(given, dict):
        is_content = "parts" in given or "role" in given
        given = Content.model_validate(given) if is_content else Part.model_validate(given)
    return Content(role="user", parts=[given]) if isinstance(given, Part) else given
