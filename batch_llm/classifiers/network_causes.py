"""Readable causes of connection errors, for which providers' clients only report "Connection error.".

The cause is in the chain of exceptions (`__cause__`), and differs between clients: openai and anthropic over httpx2,
google-genai, httpx, aiohttp. None of these is imported.
"""

from __future__ import annotations

import errno
import socket
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, cast
from urllib.parse import urlsplit

Chain = list[BaseException]


def network_cause(error: BaseException) -> str:
    """Return the address of a failed connection and the cause of the failure; empty if both are unknown.

    Example:
        https://llm.example: the name llm.example cannot be resolved (DNS): Name or service not known
    """
    chain = list(_chain(error))
    address = _address(chain)
    reason = next(filter(None, (cause(chain) for cause in _CAUSES)), "")
    if not reason:
        return "" if address in _text(error) else address
    host = urlsplit(address).hostname or "of the host" if address else "of the host"
    return f"{address}: {reason}".removeprefix(": ").replace("{host}", host)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, the exceptions of a group, and its causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        for member in cast("BaseExceptionGroup[Any]", error).exceptions if _is_group(error) else ():
            yield from _chain(member)
        # httpcore removes the cause of exceptions from its pool, but their context remains.
        error = error.__cause__ or (error.__context__ if type(error).__module__.startswith("httpcore") else None)


def _is_group(error: BaseException) -> bool:
    return isinstance(error, BaseExceptionGroup)


def _files(chain: Chain) -> str:
    if any(_errno(error) in (errno.EMFILE, errno.ENFILE) for error in chain):
        return "no file descriptor is left for another connection: raise `ulimit -n`, or lower config.max_workers"
    return ""


def _proxy(chain: Chain) -> str:
    """Return the problem with a proxy, which would otherwise look like an error of the provider."""
    asked = _address(chain)
    proxy = _proxy_for(asked)
    names = {_name(cls) for error in chain for cls in type(error).__mro__}
    is_proxys = bool(names & {"ProxyError", "ClientProxyConnectionError", "ClientHttpProxyError"})
    is_direct = any(_host_of(error) == urlsplit(asked).hostname for error in chain if _host_of(error))
    if not is_proxys and not (
        proxy and not is_direct and names & {"ConnectError", "ClientConnectorError", "ConnectTimeout"}
    ):
        return ""
    why = next((reason for cause in (_name_of_host, _system) if (reason := cause(chain))), "") or _deepest(chain)
    where = f"the proxy {proxy}" if proxy else "the proxy"
    return (
        f"{where} cannot be used: {why.replace('the name {host}', 'its name')} "
        "(HTTP_PROXY, HTTPS_PROXY; NO_PROXY names hosts without one)"
    )


def _certificate(chain: Chain) -> str:
    for error in chain:
        inner = vars(error).get("_certificate_error", error)
        if isinstance(inner, ssl.SSLCertVerificationError):
            why = inner.verify_message or inner.reason or str(inner)
            return (
                f"the certificate is not accepted: {why}: for a certificate of your company, set SSL_CERT_FILE to the "
                "file of its certificate authority"
            )
    return ""


_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


def _tls(chain: Chain) -> str:
    for error in chain:
        if isinstance(error, ssl.SSLError):
            hint = ": it may be an http:// address" if error.reason in _NOT_TLS else ""
            return f"no secure connection ({error.reason or error}){hint}"
    return ""


def _name_of_host(chain: Chain) -> str:
    for error in chain:
        if isinstance(error, socket.gaierror):
            return f"the name {{host}} cannot be resolved (DNS): {error.strerror or error}"
    return ""


def _protocol(chain: Chain) -> str:
    wrong = {"UnsupportedProtocol", "InvalidURL", "NonHttpUrlClientError", "InvalidUrlClientError"}
    for error in chain:
        if any(_name(cls) in wrong for cls in type(error).__mro__):
            return f"the address is invalid, it must begin with http:// or https://: {_text(error)}"
    return ""


_REFUSED = "the connection was refused: no server listens on this port"
_CLOSED = "the connection was closed before the answer was complete"
_SYSTEM = {
    errno.ECONNREFUSED: _REFUSED,
    errno.ENETUNREACH: "the network cannot be reached",
    errno.ENETDOWN: "the network is down",
    errno.EHOSTUNREACH: "the host cannot be reached",
    errno.EHOSTDOWN: "the host is down",
    errno.ETIMEDOUT: "no connection in time",
    errno.EADDRNOTAVAIL: "this machine has no port left for another connection",
    errno.ECONNRESET: _CLOSED,
    errno.EPIPE: _CLOSED,
    errno.ECONNABORTED: _CLOSED,
}


def _system(chain: Chain) -> str:
    return next((_SYSTEM[number] for error in chain if (number := _errno(error)) in _SYSTEM), "")


_BY_NAME = {
    "ServerDisconnectedError": _CLOSED,
    "ClientPayloadError": _CLOSED,
    "IncompleteReadError": _CLOSED,
    "ConnectionResetError": _CLOSED,
    "ClientConnectionResetError": _CLOSED,
    "ReadError": _CLOSED,
    "WriteError": _CLOSED,
    "PoolTimeout": "no connection was free in time",
    "ConnectTimeout": "no connection in time",
    "ConnectionTimeoutError": "no connection in time",
}


def _by_name(chain: Chain) -> str:
    for error in chain:
        for cls in type(error).__mro__:
            if reason := _BY_NAME.get(_name(cls)):
                return reason
    return ""


def _deepest(chain: Chain) -> str:
    """Return the text of the root cause if the first exception does not contain it."""
    return "" if _text(chain[-1]) in _text(chain[0]) else _text(chain[-1])


_CAUSES: tuple[Callable[[Chain], str], ...] = (
    _files,
    _certificate,
    _proxy,
    _tls,
    _name_of_host,
    _protocol,
    _system,
    _by_name,
    _deepest,
)


def _address(chain: Chain) -> str:
    """Return scheme, host and port of the request, which the exceptions of most clients contain."""
    for error in chain:
        facts = vars(error)
        request = facts.get("request") or facts.get("_request") or facts.get("request_info")
        url: object = getattr(request, "real_url", None) or getattr(request, "url", None)
        with suppress(ValueError):
            parts = urlsplit(str(url or ""))
            if parts.hostname:
                host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
                return f"{parts.scheme}://{host}:{parts.port}" if parts.port else f"{parts.scheme}://{host}"
    for error in chain:
        if host := _host_of(error):
            key = vars(error)["_conn_key"]
            scheme = "https" if getattr(key, "is_ssl", False) else "http"
            return f"{scheme}://{host}:{getattr(key, 'port', '')}".rstrip(":")
    return ""


def _host_of(error: BaseException) -> str | None:
    """Return the host, possibly a proxy, to which aiohttp connected."""
    return getattr(vars(error).get("_conn_key"), "host", None)


def _proxy_for(address: str) -> str:
    """Return the proxy that the environment sets for an address, without its password."""
    parts = urlsplit(address)
    if not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return ""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
    found = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return f"{found.scheme}://{found.netloc.rpartition('@')[2]}" if proxy else ""


def _errno(error: BaseException) -> int | None:
    if isinstance(error, socket.gaierror) or not isinstance(error, OSError):
        return None
    return error.errno


def _name(cls: type) -> str:
    return cls.__name__


def _text(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())[:300] or type(error).__name__
    except Exception:  # the `__str__` of a library's exception failed
        return type(error).__name__
