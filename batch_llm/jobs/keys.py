"""Providers' keys: named by a variable of the environment, and never part of a job."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from batch_llm.errors import JobError

from .redact import redact, secrets_of_environment

_SECRET_SETTING = re.compile(
    r"(?i)((api|access|account|subscription|function)[-_]?key|authorization|(^|[-_])auth|passw(or)?d|passphrase|secret|"
    r"(^|[-_])token|credentials?|cookie|signature)$"
)
_LEAST_KNOWN = 16
"""Letters of a secret of the environment that is looked for in a job: a shorter one may be an ordinary word."""


class KeyMissing(JobError):
    """A model's key is not in the environment.

    Attributes:
        variables: Any one of these would do.
    """

    def __init__(self, message: str, variables: tuple[str, ...] = ()) -> None:
        super().__init__(message)  # one argument: it travels between processes
        self.variables = variables


def key_missing(model: str, variables: tuple[str, ...], more: str = "") -> KeyMissing:
    """Return the error for a model whose key is in none of `variables`: what to set, and where else it may be."""
    return KeyMissing(
        f"model {model!r} needs a key: set {' or '.join(variables)} in the environment, or save it in Prefect as a "
        f"Secret block called {secret_name(variables[0])!r}{more}",
        variables,
    )


def secret_name(variable: str) -> str:
    """Return the name of the secret that stands for a variable: `openai-api-key` for `OPENAI_API_KEY`."""
    return variable.lower().replace("_", "-")


def refuse_keys(settings: Mapping[str, Any]) -> None:
    """See that settings hold no key: what is a parameter is stored, and shown to everybody.

    Raises:
        ValueError: One holds what looks like a key; it is named, and not shown.
    """
    for place, text in _texts(settings):
        name = place.rpartition(".")[2]
        if text and (_SECRET_SETTING.search(name) or redact(text) != text):
            raise ValueError(
                f"{place} looks like a key, and parameters are stored and shown: leave it out, and set the provider's "
                "variable, such as OPENAI_API_KEY, in the environment or as a Prefect Secret block"
            )


def refuse_known_keys(values: Mapping[str, Any]) -> None:
    """Check that no value holds a secret that the environment has.

    Raises:
        ValueError: One does; it is named, and not shown.
    """
    keys = {name: key for name, key in secrets_of_environment().items() if len(key) >= _LEAST_KNOWN}
    for place, text in _texts(values):
        for name, key in keys.items():
            if key in text:
                variable = name.partition("#")[0]
                raise ValueError(
                    f"{place} holds the value of {variable}, and parameters are stored and shown: leave it out"
                )


def _texts(value: object, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text in plain data, and where it is."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for name, inner in cast("Mapping[object, object]", value).items():
            yield from _texts(inner, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list):
        for inner in cast("list[object]", value):
            yield from _texts(inner, place)
