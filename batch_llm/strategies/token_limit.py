"""The limit of an answer's tokens: under the name that the server knows, and whether it is respected."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from .server_facts import ServerFacts, compatible_server, refuses

if TYPE_CHECKING:
    from pydantic_ai.models import Model
    from pydantic_ai.settings import ModelSettings

log = logging.getLogger(__name__)

_NAMES = ("max_tokens", "max_completion_tokens")
_FACT = "token_limit_name"
_SLACK = 1.1, 8
"""Servers count a few tokens of their own, at the end of an answer and around it."""


class TokenLimit:
    """`max_tokens` of a model's settings on its way to a server.

    OpenAI calls it `max_completion_tokens` and refuses the older name for some models. Compatible servers know
    `max_tokens`; of the newer name some refuse the request, and some know nothing and answer without a limit. So a
    compatible server gets the older name, and the other one once it refuses or ignores that.

    Args:
        model: Who answers.
        settings: The settings of each request.
        facts: What is known of the server.
    """

    def __init__(self, model: Model, settings: ModelSettings | None, facts: ServerFacts) -> None:
        given = dict(settings or {})
        limit = given.get("max_tokens")
        self.value = limit if type(limit) is int else None
        self._facts = facts
        self._told = False
        self._server = compatible_server(model)
        own_body: Any = given.get("extra_body") or {}
        chooses = self._server is not None and self.value is not None and isinstance(own_body, Mapping)
        self._by_name: dict[str, ModelSettings | None] = dict.fromkeys(_NAMES, settings)
        self._chooses = chooses and not any(name in own_body for name in _NAMES)
        self._refused = set[str]()
        if self._chooses:
            without = {name: value for name, value in given.items() if name != "max_tokens"}
            body = cast("Mapping[str, Any]", own_body)
            for name in _NAMES:
                self._by_name[name] = cast("ModelSettings", {**without, "extra_body": {**body, name: self.value}})

    @property
    def name(self) -> str:
        """The name under which the next request has the limit."""
        return self._facts.get(_FACT) or _NAMES[0]

    def settings(self, name: str) -> ModelSettings | None:
        """Return a request's settings, with the limit under a name."""
        return self._by_name[name]

    def is_renamed(self, error: Exception, sent: str) -> bool:
        """Whether a request that failed should be sent again, with the limit under its other name."""
        if not self._chooses or not refuses(error, sent):
            return False
        if sent == self.name:
            self._refused.add(sent)
            if len(self._refused) == len(_NAMES):
                return False  # it refuses the number, not the name
            self._rename(sent)
        return True

    def note(self, output_tokens: int, sent: str) -> None:
        """Notice an answer that is longer than the limit; said once."""
        factor, more = _SLACK
        if self.value is None or self._told or output_tokens <= self.value * factor + more:
            return
        self._told = True
        log.warning(
            "%s ignores the token limit: an answer has %s tokens, and max_tokens is %s. Such answers cost more than "
            "the limit allows; set the limit where the server is started, or name it as the server does in extra_body.",
            self._server or "The provider",
            output_tokens,
            self.value,
        )
        if self._chooses and sent == self.name and not self._refused:
            self._refused.add(sent)
            self._rename(sent)

    def _rename(self, sent: str) -> None:
        self._facts.learn(_FACT, next(name for name in _NAMES if name != sent))
