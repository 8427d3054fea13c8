"""Providers' keys: named by a variable of the environment, and never part of a job."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, cast
from urllib.parse import quote, quote_plus

from batch_llm.errors import JobError

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


_SECRET_NAME = re.compile(
    r"(?i)KEY(?!BOARD|MAP|STROKE|WORD)|TOKEN(?!IZER)|SECRET|PASSW|PASSPHRASE|AUTH(?!OR(?!I))|CREDENTIAL|COOKIE|"
    r"SIGNATURE|CONN(?:ECTION)?_?STR|(?:^|_)(?:PASS|PSW|PW|PWD|CREDS?|SAS|JWT|BEARER|DSN|WEBHOOK)(?:$|[_\d])"
)
_HARMLESS_NAME = re.compile(
    r"(?i)^(?:OLD)?PWD$|_(?:SOCK|PID|FILE|PATH|DIR|HOME|URL|URI|HOST|ENDPOINT|TTL|TYPE|MODE|METHOD|BACKEND|NAME|REGION|USER)$"
)
_LEAST_LENGTH = 8  # "test" in every text is no secret
_PASSWORD_IN_URL = re.compile(r"://[^\s/:@\"']*:([^\s/@\"']+)@")
_SEPARATOR = r"""["']?\s*(?:[=:]|%3[dDaA])\s*(?:["']|%22)?"""
_BEFORE = r"(?<![A-Za-z0-9])"
_PATTERNS = re.compile(
    rf"""(?x)
    ((?i:\bbearer(?:\s+|%20|\+)) |
     (?i:\b(?:x[_-])?(?:api[_-]?key|key|(?:access[_-]|auth[_-]|refresh[_-]|session[_-])?token|(?:client[_-])?secret|
        password|passwd|pwd|authorization|x[_-]auth|account[_-]?key|shared[_-]?access[_-]?key|
        (?:x[_-]amz[_-])?signature|x[_-]amz[_-](?:security[_-]token|credential)|sig)\b){_SEPARATOR}
        (?i:(?:bearer|basic|token)(?:\s+|%20|\+))?)
    [^\s"'&,;]{{8,}}
    | (?<=://) [^\s/:@"']* : [^\s/@"']+ (?=@)
    | \b(?:sk|pk)-[A-Za-z0-9_*-]{{8,}}
    | {_BEFORE}(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{{8,}}
    | {_BEFORE}AIza[A-Za-z0-9_-]{{20,}}
    | {_BEFORE}ya29\.[A-Za-z0-9_-]{{20,}}
    | {_BEFORE}(?:gh[pousr]|github_pat|glpat|hf|npm|gsk|r8|xai|pypi|nvapi|fw|lsv2|dop_v1|shpat|pplx|whsec)[-_]
        [A-Za-z0-9_-]{{16,}}
    | {_BEFORE}xox[abeoprs]-[A-Za-z0-9-]{{8,}}
    | {_BEFORE}(?:AKIA|ASIA)[A-Z0-9]{{16}}(?![A-Za-z0-9])
    | {_BEFORE}SG\.[A-Za-z0-9_-]{{16,}}\.[A-Za-z0-9_-]{{16,}}
    | {_BEFORE}eyJ[A-Za-z0-9_-]{{8,}}\.[A-Za-z0-9_-]{{8,}}(?:\.[A-Za-z0-9_-]*)?
    | https://hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/_-]+
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    """,
    re.DOTALL,
)


def redact(text: str) -> str:
    """Return `text` with keys, tokens and passwords replaced by `***`: those in the environment, and what looks so.

    A secret of the environment is found as it is, and as it is inside a URL, in JSON, in HTML, and in base64, also in
    the middle of what was encoded with it.
    """
    forms = {form for secret in set(secrets_of_environment().values()) for form in _forms(secret)}
    for form in sorted((form for form in forms if form in text), key=len, reverse=True):
        text = text.replace(form, "***")
    return _PATTERNS.sub(lambda match: f"{match[1] or ''}***", text)


def secrets_of_environment() -> Mapping[str, str]:
    """Return the secrets of this process's environment by their variables: by name, and passwords in addresses."""
    found: dict[str, str] = {}
    for name, value in os.environ.items():
        for number, secret in enumerate(_secrets_in(name, value)):
            found[name if number == 0 else f"{name}#{number}"] = secret
    return found


@lru_cache(maxsize=1024)
def _is_secret_name(name: str) -> bool:
    return bool(_SECRET_NAME.search(name)) and not _HARMLESS_NAME.search(name)


@lru_cache(maxsize=1024)
def _secrets_in(name: str, value: str) -> tuple[str, ...]:
    found: list[str] = []
    if _is_secret_name(name):
        bare = value.strip()
        found = [bare, *([bare.partition(":")[2]] if ":" in bare and "://" not in bare else [])]
        if bare.startswith(("/", "~", "./")) and os.path.exists(bare):  # noqa: PTH110  Path raises where it is too long
            found = []  # where a secret is kept, and not the secret
    found += _PASSWORD_IN_URL.findall(value)
    return tuple(dict.fromkeys(secret for secret in found if len(secret) >= _LEAST_LENGTH))


@lru_cache(maxsize=1024)
def _forms(secret: str) -> tuple[str, ...]:
    """Return how a secret may be written in a text."""
    quoted = [quote(secret, safe=safe) for safe in ("", "/", "~()*!.'", ":/", "+/=")]
    quoted += [quote_plus(secret), quote(quote(secret, safe=""), safe="")]
    quoted += [re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), form) for form in quoted]
    escaped = [html.escape(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1]]
    return tuple(dict.fromkeys([secret, *quoted, *escaped, secret.encode().hex(), *_in_base64(secret.encode())]))


def _in_base64(secret: bytes) -> list[str]:
    """Return the letters that a secret becomes in base64, wherever it begins in what is encoded.

    Three bytes become four letters, so there are three ways; the letters at the ends, which its neighbours share, are
    left out.
    """
    found: list[str] = []
    for before in range(3):
        whole = base64.b64encode(bytes(before) + secret).decode().rstrip("=")
        first = -(-before * 8 // 6)
        last = (before + len(secret)) * 8 // 6
        letters = whole[first:last]
        found += [letters, letters.replace("+", "-").replace("/", "_"), quote(letters, safe="")]
    return found
