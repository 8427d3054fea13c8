"""Provider keys: read from environment variables, rejected in jobs, and redacted from texts."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, cast
from urllib.parse import quote, quote_plus, unquote

from batch_llm.errors import JobError

_SECRET_SETTING = re.compile(
    r"(?i)((api|access|account|subscription|function)[-_]?key|authorization|(^|[-_])auth|passw(or)?d|passphrase|secret|"
    r"(^|[-_])token|credentials?|cookie|signature)$"
)
_LEAST_KNOWN = 16
"""Minimum length of a secret in the environment that is searched for in a job; shorter ones may be ordinary words."""


class KeyMissing(JobError):
    """The API key of a model is not in the environment.

    Attributes:
        variables: Variables that may contain the key; one of them is enough.
    """

    def __init__(self, message: str, variables: tuple[str, ...] = ()) -> None:
        super().__init__(message)  # one argument: the error is pickled between processes
        self.variables = variables


def key_missing(model: str, variables: tuple[str, ...], more: str = "") -> KeyMissing:
    """Return the error for a model without a key in any of `variables`; the message says what to set."""
    return KeyMissing(
        f"model {model!r} needs a key: set {' or '.join(variables)} in the environment, or save it in Prefect as a "
        f"Secret block named {secret_name(variables[0])!r}{more}",
        variables,
    )


def secret_name(variable: str) -> str:
    """Return the name of the Secret block for a variable: `openai-api-key` for `OPENAI_API_KEY`."""
    return variable.lower().replace("_", "-")


def refuse_keys(settings: Mapping[str, Any]) -> None:
    """Check that settings contain no key, because parameters of a run are stored and visible to everybody.

    Raises:
        ValueError: A value looks like a key; the message names the setting and does not show the value.
    """
    for place, text in _texts(settings):
        name = place.rpartition(".")[2]
        if text and (_SECRET_SETTING.search(name) or redact(text) != text):
            raise ValueError(
                f"{place} looks like a key, and parameters are stored and visible: remove it, and set the provider's "
                "variable, such as OPENAI_API_KEY, in the environment or as a Prefect Secret block"
            )


def refuse_known_keys(values: Mapping[str, Any]) -> None:
    """Check that no value contains a secret of the environment.

    Raises:
        ValueError: A value does; the message names the setting and the variable and does not show the value.
    """
    keys = {name: key for name, key in secrets_of_environment().items() if len(key) >= _LEAST_KNOWN}
    for place, text in _texts(values):
        for name, key in keys.items():
            if key in text:
                variable = name.partition("#")[0]
                raise ValueError(
                    f"{place} contains the value of {variable}, and parameters are stored and visible: remove it"
                )


def _texts(value: object, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the value of every text in plain data."""
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
_LEAST_LENGTH = 8  # "test" in a text is not a secret
_LEAST_LINE_LENGTH = 16  # of one line of a secret with several lines
_USER_IN_URL = re.compile(r"https?://([^\s/:@\"']{16,})@")  # the key in the DSN of Sentry and others
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
    """Return `text` with keys, tokens and passwords replaced by `***`.

    Redacted are the secrets of the environment and everything that has the form of a secret. Secrets of the environment
    are also found URL-encoded, JSON-escaped, HTML-escaped and base64-encoded, even inside longer base64 data.
    """
    forms = {form for secret in set(secrets_of_environment().values()) for form in _forms(secret)}
    for form in sorted((form for form in forms if form in text), key=len, reverse=True):
        text = text.replace(form, "***")
    return _PATTERNS.sub(lambda match: f"{match[1] or ''}***", text)


def secrets_of_environment() -> Mapping[str, str]:
    """Return the secrets of this process's environment by variable: secret variables, and passwords in URLs."""
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
        found += [line.strip() for line in bare.splitlines() if len(line.strip()) >= _LEAST_LINE_LENGTH]
        found += _USER_IN_URL.findall(bare)
        if bare.startswith(("/", "~", "./")) and os.path.exists(bare):  # noqa: PTH110  Path raises where it is too long
            found = []  # the path of a file with a secret, not a secret
    passwords = _PASSWORD_IN_URL.findall(value)
    found += [*passwords, *map(unquote, passwords)]
    return tuple(dict.fromkeys(secret for secret in found if len(secret) >= _LEAST_LENGTH))


@lru_cache(maxsize=1024)
def _forms(secret: str) -> tuple[str, ...]:
    """Return the encoded forms in which a secret may appear in a text."""
    quoted = [quote(secret, safe=safe) for safe in ("", "/", "~()*!.'", ":/", "+/=")]
    quoted += [quote_plus(secret), quote(quote(secret, safe=""), safe="")]
    quoted += [re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), form) for form in quoted]
    escaped = [html.escape(secret), html.escape(secret, quote=False), repr(secret)[1:-1], repr(secret.encode())[2:-1]]
    escaped += [html.escape(secret).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")]
    for in_json in (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
        as_go_does = re.sub("[&<>]", lambda match: f"\\u{ord(match[0]):04x}", in_json)
        as_php_does = in_json.replace("/", "\\/")
        escaped += [in_json, as_go_does, as_php_does, json.dumps(in_json)[1:-1]]
    in_hex = secret.encode().hex()
    return tuple(dict.fromkeys([secret, *quoted, *escaped, in_hex, in_hex.upper(), *_in_base64(secret.encode())]))


def _in_base64(secret: bytes) -> list[str]:
    """Return the base64 characters of a secret at each possible offset in the encoded data.

    Three bytes become four characters, so there are three offsets. Characters at the ends are left out, because they
    also depend on the neighbouring bytes.
    """
    found: list[str] = []
    for before in range(3):
        whole = base64.b64encode(bytes(before) + secret).decode().rstrip("=")
        first = -(-before * 8 // 6)
        last = (before + len(secret)) * 8 // 6
        letters = whole[first:last]
        found += [letters, letters.replace("+", "-").replace("/", "_"), quote(letters, safe="")]
    return found
