"""Modes of structured output, and the fallback if a server does not support one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Literal, TypeAlias

from .server_facts import ServerFacts, compatible_server, refuses

if TYPE_CHECKING:
    from pydantic_ai.models import Model

log = logging.getLogger(__name__)

OutputMode: TypeAlias = Literal["auto", "native", "tool", "prompted"]
"""Setting for structured output: the best mode of the model, its JSON Schema output, a tool call, or a prompt."""

RequestMode: TypeAlias = Literal["text", "auto", "native", "tool", "prompted", "words"]
"""Mode of a request, as pydantic-ai names it; "words" is "prompted" without the provider's JSON mode."""

_FACT = "output_mode"
_NEXT: dict[str, RequestMode] = {"native": "tool", "tool": "prompted", "prompted": "words"}
_SHAPE_WORDS = ("json_schema", "json schema", "response_format", "response format", "structured output", "json_object")
_WORDS = {
    "native": (*_SHAPE_WORDS, "output_format", "output_config", "text.format", "response_schema", "responseschema"),
    "tool": ("tool", "function"),
    "prompted": (*_SHAPE_WORDS, "json mode"),
}
_PATIENCE_SECONDS = 2.0
"""Longest wait for the first call: a server rejects a mode within moments, so a slower first call is not waited for."""


class OutputModes:
    """Mode of a run's requests, detected with the first call and then kept.

    Args:
        model: Model that answers.
        wanted: Mode that the job requests.
        facts: Known facts about the server.
    """

    def __init__(self, model: Model, wanted: OutputMode, facts: ServerFacts) -> None:
        self._first: RequestMode = _best(model) if wanted == "auto" else wanted
        self._falls = ("native", "tool", "prompted") if wanted == "auto" else ("prompted",)
        self._facts = facts
        self._server = compatible_server(model)
        self._accepted = False
        self._probe: asyncio.Event | None = None

    @property
    def current(self) -> RequestMode:
        """Mode of the next request."""
        found: RequestMode | None = self._facts.get(_FACT)  # pyright: ignore[reportAssignmentType]  only we write it
        return found or self._first

    @asynccontextmanager
    async def call(self) -> AsyncGenerator[None]:
        """Wrap a call; the first call to a compatible server goes ahead, so that only one request is rejected."""
        if self._server is None or self._accepted or self.current not in self._falls:
            yield
        elif self._probe is None:
            self._probe = asyncio.Event()
            try:
                yield
            finally:
                self._probe.set()
        else:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._probe.wait(), _PATIENCE_SECONDS)
            yield

    def accept(self) -> None:
        """Record that the server accepted the mode: later rejections have other reasons."""
        self._accepted = True

    def is_replaced(self, error: Exception, used: RequestMode) -> bool:
        """Return whether to send a failed request again in another mode, because the server does not support `used`."""
        if used != self.current:
            return used in self._falls and refuses(error, *_WORDS[used])
        if self._accepted or used not in self._falls or not refuses(error, *_WORDS[used]):
            return False
        following = _NEXT[used]
        self._facts.learn(_FACT, following)
        log.warning(
            "%s does not support output_mode=%s (%s): this run uses %s.",
            self._server or "The provider",
            used,
            " ".join(str(error).split())[:200],
            "the prompt only" if following == "words" else f"output_mode={following}",
        )
        return True


def _best(model: Model) -> RequestMode:
    """Return the best mode for structured output that a model supports."""
    try:
        profile = model.profile
    except NotImplementedError:  # a fallback over several models: the model that answers chooses
        return "auto"
    if profile.get("supports_json_schema_output"):
        return "native"
    return profile.get("default_structured_output_mode", "tool")
