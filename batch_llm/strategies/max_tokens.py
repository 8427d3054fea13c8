"""The setting `max_tokens`: its name that the server accepts, and a check that the server respects its value."""

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
"""Tolerance as factor and summand: servers count a few extra tokens at the end of an answer and around it."""


class MaxTokensSetting:
    """The setting `max_tokens`, under the name that the server accepts.

    OpenAI's name is `max_completion_tokens`, and it rejects the older name for some models. Compatible servers know
    `max_tokens`; some of them reject the newer name, and some ignore it and answer without a limit. So a compatible
    server receives the older name, and the newer one after it rejected or ignored that.

    Args:
        model: Model that answers.
        settings: Settings of each request.
        facts: Known facts about the server.
    """

    def __init__(self, model: Model, settings: ModelSettings | None, facts: ServerFacts) -> None:
        given = dict(settings or {})
        limit = given.get("max_tokens")
        self.value = limit if type(limit) is int else None
        self._facts = facts
        self._warned = False
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
        """Name of the token limit in the next request."""
        return self._facts.get(_FACT) or _NAMES[0]

    def settings(self, name: str) -> ModelSettings | None:
        """Return the settings of a request, with the limit under the given name."""
        return self._by_name[name]

    def is_renamed(self, error: Exception, sent: str) -> bool:
        """Return whether to send a failed request again, with the limit under its other name."""
        if not self._chooses or not refuses(error, sent):
            return False
        if sent == self.name:
            self._refused.add(sent)
            if len(self._refused) == len(_NAMES):
                return False  # the server rejects the value, not the name
            self._rename(sent)
        return True

    def note(self, output_tokens: int, sent: str) -> None:
        """Log a warning, once, if an answer is longer than the limit, and use the other name from then on."""
        factor, more = _SLACK
        if self.value is None or self._warned or output_tokens <= self.value * factor + more:
            return
        self._warned = True
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
