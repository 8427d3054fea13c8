"""Checks of provider addresses, keys and proxies in the environment, and loopback hosts that bypass proxies."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from batch_llm.errors import JobError

from .secrets import redact

_ADDRESS_ENDINGS = ("_BASE_URL", "_ENDPOINT", "_ENDPOINT_URL", "_API_BASE", "_INFERENCE_URL")
_KEY_ENDINGS = ("_API_KEY", "_TOKEN", "_INFERENCE_KEY")
_PREFIXES = {
    "google": ("GOOGLE_", "GEMINI_"),
    "gemini": ("GOOGLE_", "GEMINI_"),
    "gateway": ("PYDANTIC_AI_GATEWAY_",),
    "huggingface": ("HF_",),
    "bedrock": ("AWS_",),
    "grok": ("GROK_", "XAI_"),
    "xai": ("GROK_", "XAI_"),
    "alibaba": ("ALIBABA_", "DASHSCOPE_"),
}
"""Prefixes of the variables of providers whose variables do not begin with the provider's name."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def check_environment(model: str) -> None:
    """Check the addresses and keys that a model's provider reads from the environment, without a call.

    An empty variable counts as missing: it is removed, because clients take it for a key.

    Raises:
        JobError: An address has no http://, a key has characters that a header cannot contain, or a proxy is not valid.
    """
    prefixes = _prefixes(model.partition(":")[0])
    for name, value in sorted(os.environ.items()):
        if not name.startswith(prefixes):
            continue
        if not value and name.endswith((*_ADDRESS_ENDINGS, *_KEY_ENDINGS)):
            del os.environ[name]
        elif name.endswith(_ADDRESS_ENDINGS):
            _check_address(name, value)
        elif name.endswith(_KEY_ENDINGS):
            _check_key(name, value)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        for each in (name, name.lower()):
            _check_proxy(each, os.environ.get(each, ""))


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine: localhost, 127.x.y.z, ::1."""
    bare = host.strip("[]").rstrip(".").lower()
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return bare == "localhost" or bare.endswith(".localhost")


def loopback_hosts() -> tuple[str, ...]:
    """Return the loopback names of this machine, including those in addresses in the environment."""
    named = (_host(value) for value in os.environ.values() if value.startswith(("http://", "https://")))
    return tuple(dict.fromkeys([*_LOOPBACK, *(host for host in named if is_loopback(host))]))


def loopback_patterns() -> tuple[str, ...]:
    """Return the loopback hosts as patterns of httpx `mounts`: https://www.python-httpx.org/advanced/transports/."""
    return tuple(f"all://[{host}]" if ":" in host else f"all://{host}" for host in loopback_hosts())


def exclude_loopback_from_proxies() -> None:
    """Add the loopback hosts to `NO_PROXY` for this process and its children.

    A proxy would connect to its own machine instead of this one. All clients respect `NO_PROXY`, Prefect's included.
    """
    for variable in ("NO_PROXY", "no_proxy"):
        known = [part.strip() for part in os.environ.get(variable, "").split(",")]
        if variable == "no_proxy" and variable not in os.environ:
            continue  # clients read NO_PROXY if no_proxy is missing
        if "*" not in known:
            os.environ[variable] = ",".join(dict.fromkeys([*filter(None, known), *loopback_hosts()]))


def _prefixes(provider: str) -> tuple[str, ...]:
    family = provider.partition("/")[0].partition("-")[0].partition("_")[0].lower()
    return _PREFIXES.get(family, (f"{family.upper()}_",))


def _check_address(name: str, value: str) -> None:
    problem = next(_problems_of_address(value), "")
    if problem:
        raise JobError(f"{name} is {redact(value)[:200]!r}, which is not a usable address: {problem}")


def _problems_of_address(value: str) -> Iterator[str]:
    if any(letter.isspace() or not letter.isprintable() for letter in value):
        yield "it contains a space or a line break; remove it"
    try:
        parts = urlsplit(value)
        has_port_0 = parts.port == 0
    except ValueError as error:
        yield f"{str(error)[:100]}; write it like https://host:443/v1"
        return
    if parts.scheme not in ("http", "https"):
        example = "" if "://" in value else f", such as http://{redact(value)[:200]}"
        yield f"an address must begin with http:// or https://{example}"
    if not parts.hostname or has_port_0:
        yield "it has no host or no valid port; write it like https://host:443/v1"


def _check_proxy(name: str, value: str) -> None:
    """Check the address of a proxy, which may omit http://, or be a SOCKS address if a SOCKS package is installed."""
    address = value if "://" in value else f"http://{value}"
    problem = "" if not value or address.startswith("socks") else next(_problems_of_address(address), "")
    if problem:
        raise JobError(f"{name} is {redact(address)[:200]!r}, which cannot be used as a proxy: {problem}")


def _check_key(name: str, value: str) -> None:
    odd = next((letter for letter in value if not " " <= letter <= "~"), "")
    if value.strip() != value:
        reason = "it begins or ends with a space or a line break"
    elif odd:
        what = "a line break" if odd in "\r\n" else f"the character U+{ord(odd):04X}"
        reason = f"it contains {what}"
    else:
        return
    raise JobError(f"{name} cannot be sent: {reason}; remove it")


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
