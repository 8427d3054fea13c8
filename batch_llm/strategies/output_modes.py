"""By what means a model is held to a shape, and what follows where a server does not know them."""

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
"""What may be set: the best that the model has, its JSON Schema output, a call of a tool, or words."""

RequestMode: TypeAlias = Literal["text", "auto", "native", "tool", "prompted", "words"]
"""What a request uses: as pydantic-ai names them; "words" is "prompted" without asking for JSON beside that."""

_FACT = "output_mode"
_NEXT: dict[str, RequestMode] = {"native": "tool", "tool": "prompted", "prompted": "words"}
_SHAPE_WORDS = ("json_schema", "json schema", "response_format", "response format", "structured output", "json_object")
_WORDS = {
    "native": (*_SHAPE_WORDS, "output_format", "output_config", "text.format", "response_schema", "responseschema"),
    "tool": ("tool", "function"),
    "prompted": (*_SHAPE_WORDS, "json mode"),
}
_PATIENCE_SECONDS = 2.0
"""A server refuses within moments; a slow answer is not waited for, for its time is that of a call."""


class OutputModes:
    """The means of a run's requests: found out with the first call, and kept.

    Args:
        model: Who answers.
        wanted: What the job asks for.
        facts: What is known of the server.
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
        """What the next request uses."""
        found: RequestMode | None = self._facts.get(_FACT)  # pyright: ignore[reportAssignmentType]  only we write it
        return found or self._first

    @asynccontextmanager
    async def call(self) -> AsyncGenerator[None]:
        """Surround a call: the first one to a compatible server goes ahead, so that one refusal is enough."""
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
        """Note that the server took a request: what it refuses from now on is something else."""
        self._accepted = True

    def is_replaced(self, error: Exception, used: RequestMode) -> bool:
        """Whether a request that failed should be sent again by other means, for the server does not know these."""
        if used != self.current:
            return used in self._falls and refuses(error, *_WORDS[used])
        if self._accepted or used not in self._falls or not refuses(error, *_WORDS[used]):
            return False
        following = _NEXT[used]
        self._facts.learn(_FACT, following)
        log.warning(
            "%s does not take answers by output_mode=%s (%s): this run asks by %s.",
            self._server or "The provider",
            used,
            " ".join(str(error).split())[:200],
            "words alone" if following == "words" else f"output_mode={following}",
        )
        return True


def _best(model: Model) -> RequestMode:
    """Return the best means that a model has to answer in a shape."""
    try:
        profile = model.profile
    except NotImplementedError:  # one of several models will answer, and has the choice then
        return "auto"
    if profile.get("supports_json_schema_output"):
        return "native"
    return profile.get("default_structured_output_mode", "tool")
