"""Providers' addresses and keys in the environment: whether they can work at all, and what no proxy may come before."""

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
"""Of a provider's variables, where they do not begin with its name, as OPENAI_BASE_URL does."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def check_environment(model: str) -> None:
    """Check the addresses and keys that a model's provider reads from the environment, without a call.

    Raises:
        JobError: One line: an address without http://, a key that no header can carry, a proxy of an unknown kind.
    """
    prefixes = _prefixes(model.partition(":")[0])
    for name, value in sorted(os.environ.items()):
        if not name.startswith(prefixes) or not value:
            continue
        if name.endswith(_ADDRESS_ENDINGS):
            _check_address(name, value)
        elif name.endswith(_KEY_ENDINGS):
            _check_key(name, value)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        for each in (name, name.lower()):
            _check_proxy(each, os.environ.get(each, ""))


def is_loopback(host: str) -> bool:
    """Whether a host's name or number is this machine itself: localhost, 127.x.y.z, ::1."""
    bare = host.strip("[]").rstrip(".").lower()
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return bare == "localhost" or bare.endswith(".localhost")


def loopback_hosts() -> tuple[str, ...]:
    """Return the usual names of this machine, and those that an address in the environment has for it."""
    named = (_host(value) for value in os.environ.values() if value.startswith(("http://", "https://")))
    return tuple(dict.fromkeys([*_LOOPBACK, *(host for host in named if is_loopback(host))]))


def loopback_patterns() -> tuple[str, ...]:
    """Return what httpx calls these hosts in its `mounts`: https://www.python-httpx.org/advanced/transports/."""
    return tuple(f"all://[{host}]" if ":" in host else f"all://{host}" for host in loopback_hosts())


def exclude_loopback_from_proxies() -> None:
    """Let this process, and those that it starts, ask no proxy for this machine: a proxy would look at itself.

    `NO_PROXY` is what all clients look at, Prefect's included, whichever proxy the environment names.
    """
    for variable in ("NO_PROXY", "no_proxy"):
        known = [part.strip() for part in os.environ.get(variable, "").split(",")]
        if variable == "no_proxy" and variable not in os.environ:
            continue  # the other one is read where this one is missing
        if "*" not in known:
            os.environ[variable] = ",".join(dict.fromkeys([*filter(None, known), *loopback_hosts()]))


def _prefixes(provider: str) -> tuple[str, ...]:
    family = provider.partition("/")[0].partition("-")[0].partition("_")[0].lower()
    return _PREFIXES.get(family, (f"{family.upper()}_",))


def _check_address(name: str, value: str) -> None:
    problem = next(_problems_of_address(value), "")
    if problem:
        raise JobError(f"{name} is {redact(value)[:200]!r}, which cannot be called: {problem}")


def _problems_of_address(value: str) -> Iterator[str]:
    if any(letter.isspace() or not letter.isprintable() for letter in value):
        yield "it has a blank or a line break in it; take that out"
    try:
        parts = urlsplit(value)
        has_port_0 = parts.port == 0
    except ValueError as error:
        yield f"{str(error)[:100]}; write it like https://host:443/v1"
        return
    if parts.scheme not in ("http", "https"):
        told = "" if "://" in value else f", as in http://{redact(value)[:200]}"
        yield f"an address begins with http:// or https://{told}"
    if not parts.hostname or has_port_0:
        yield "it names no host or no port; write it like https://host:443/v1"


def _check_proxy(name: str, value: str) -> None:
    """Check a proxy's address, which may do without http://, and may be one of SOCKS where a package for that is."""
    address = value if "://" in value else f"http://{value}"
    problem = "" if not value or address.startswith("socks") else next(_problems_of_address(address), "")
    if problem:
        raise JobError(f"{name} is {redact(address)[:200]!r}, which cannot be used as a proxy: {problem}")


def _check_key(name: str, value: str) -> None:
    odd = next((letter for letter in value if not " " <= letter <= "~"), "")
    if value.strip() != value:
        reason = "it begins or ends with a blank or a line break"
    elif odd:
        what = "a line break" if odd in "\r\n" else f"the character U+{ord(odd):04X}"
        reason = f"it has {what} in it"
    else:
        return
    raise JobError(f"{name} cannot be sent: {reason}; set it anew, without")


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
