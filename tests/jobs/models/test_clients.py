"""HTTP clients of a job's calls: what they read, where prompts are sent, and their error messages."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import resource
import socket
import ssl
import subprocess
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from batch_llm import LLMWorkItem, ParallelBatchProcessor, WorkItemResult
from batch_llm.errors import JobError
from batch_llm.jobs.models.factory import check_model, make_strategy
from batch_llm.jobs.models.response_limits import MOST_BYTES
from batch_llm.jobs.provider_addresses import exclude_loopback_from_proxies
from tests.support.jobs import job
from tests.support.loopback import Reply
from tests.support.openai_server import OpenAIServer

ADDRESSES = ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL")
MODELS = ("openai-chat:m", "openai:m", "anthropic:m", "google:gemini-2.5-flash", "gemini-direct:gemini-2.5-flash")

Result = WorkItemResult[Any, Any]
Respond = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.setenv(name, "some-key-of-mine")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def at(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    for name in ADDRESSES:
        monkeypatch.setenv(name, address)


async def answers(model: str, *prompts: str, workers: int = 5) -> list[Result]:
    """Call the model once for each prompt."""
    settings = {"max_workers": workers, "timeout_per_item": 20.0, "retry": {"max_attempts": 1}}
    made = job(model=model, config=settings)
    processor = ParallelBatchProcessor[None, Any, None](made.config)
    strategy = make_strategy(made)
    for number, prompt in enumerate(prompts):
        await processor.add_work(LLMWorkItem(str(number), strategy, prompt))
    return (await processor.process_all()).results


@asynccontextmanager
async def serving(respond: Respond, **options: Any) -> AsyncGenerator[str]:
    """Run a server that reads each request, lets `respond` write the reply, and closes the connection."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), b":0")
            await respond(await reader.readexactly(int(length.partition(b":")[2])), writer)
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, **options)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
ANSWER = json.dumps(
    {
        "id": "a",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "good"}}],
    }
).encode()


def _zipped(of: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(b" " * 2**20) for _ in range(of // 2**20)), packer.flush()])


BODIES: dict[str, tuple[str, bytes]] = {
    "gzip": ("gzip", _zipped(64 * 2**20)),
    "gzip in gzip": ("gzip, gzip", gzip.compress(_zipped(64 * 2**20))),
    "deflate": ("deflate", zlib.compress(b" " * (64 * 2**20))),
    "endless": ("identity", b" " * 2**20),
}


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", BODIES)
async def test_endless_answer_fails_only_its_row(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """With any compression, bytes beyond the limit are neither read nor kept in memory, also in concurrent calls."""
    encoding, body = BODIES[kind]
    sent = 0

    async def respond(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        if b"huge" not in request:
            writer.write(HEAD + b"\r\n" + ANSWER)
            return
        writer.write(HEAD + b"Content-Encoding: " + encoding.encode() + b"\r\n\r\n")
        for _ in range(200 if kind == "endless" else 1):
            writer.write(body)
            await writer.drain()
            sent += len(body)

    async with serving(respond) as url:
        at(monkeypatch, f"{url}/v1")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        results = await answers("openai-chat:m", *["huge"] * 20, "small", workers=21)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    assert [result.success for result in results] == [*[False] * 20, True]
    assert results[20].output == "good"
    assert results[0].error == (f"ResponseTooLarge: {url} sent more than 16 MB for one answer, which is the limit")
    assert results[0].error_info is not None
    assert not results[0].error_info.is_retryable
    assert sent < 20 * 2 * MOST_BYTES
    assert grown < 200, "MB, of 20 answers that have 64 MB or more each"


@pytest.mark.sample(2)
@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "raw deflate", "gzip, identity"])
async def test_compressed_answers_are_read(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    bits = {"deflate": 15, "raw deflate": -15}.get(encoding, 31)
    packer = zlib.compressobj(wbits=bits)
    padded = ANSWER + b" " * 300_000  # more than a step, and than what is read at once
    packed = packer.compress(padded) + packer.flush()

    async def respond(request: bytes, writer: asyncio.StreamWriter) -> None:
        named = encoding.removeprefix("raw ").encode()
        writer.write(HEAD + b"Content-Encoding: " + named + b"\r\n\r\n" + packed)
        await writer.drain()

    async with serving(respond) as url:
        at(monkeypatch, f"{url}/v1")
        (result,) = await answers("openai-chat:m", "hello")
    assert (result.output, result.error) == ("good", None)


async def test_a_redirect_to_another_host_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt stays at the host that the user named, and the error names both."""
    with OpenAIServer() as other, OpenAIServer() as server:
        server.rule = lambda call: Reply(307, {}, {"Location": f"{other.url}{call.path}"})
        at(monkeypatch, server.base_url)
        (result,) = await answers("openai-chat:m", "a prompt that must not travel")
        message = f"RedirectRefused: {server.url} redirects to {other.url}, and prompts are only sent to the configured"
    assert (server.requests, other.requests) == (1, 0)
    assert result.error is not None
    assert result.error.startswith(message)
    assert result.error_info is not None
    assert (result.error_info.category, result.error_info.is_retryable) == ("invalid_request", False)


async def test_a_redirect_within_a_host_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    with OpenAIServer() as server:
        server.rule = lambda call: (
            None if call.path.startswith("/v2") else Reply(308, {}, {"Location": "/v2/chat/completions"})
        )
        server.kind = lambda method, path: "chat"  # type: ignore[method-assign]
        at(monkeypatch, server.base_url)
        (result,) = await answers("openai-chat:m", "hello")
    assert (result.success, server.requests) == (True, 2)


async def _closes(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _long_header(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 20_000 + b"\r\n\r\n")
    await writer.drain()


def _nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


async def _failure(model: str) -> tuple[str, str]:
    (result,) = await answers(model, "hello")
    assert result.error is not None
    assert result.error_info is not None
    assert result.error_info.is_retryable
    return result.error, result.error_info.category


@pytest.mark.sample(1)
@pytest.mark.filterwarnings("ignore:(BasicAuth|The 'proxy_auth'):DeprecationWarning")  # openai's transport, of aiohttp
@pytest.mark.parametrize("model", MODELS)
async def test_broken_connection_is_reported_with_host_and_reason(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    """With the client of each provider's library."""
    nobody = _nobody()
    at(monkeypatch, nobody)
    error, category = await _failure(model)
    assert error.endswith(f": {nobody}: the connection was refused: no server listens on this port")
    assert category == "connection"

    at(monkeypatch, "http://no-such-host.invalid/v1")
    error, _ = await _failure(model)
    assert ": http://no-such-host.invalid: the name no-such-host.invalid cannot be resolved (DNS): " in error

    async with serving(_closes) as url:
        at(monkeypatch, url)
        error, _ = await _failure(model)
    assert error.endswith(f": {url}: the connection was closed before the answer was complete")

    async with serving(_long_header) as url:
        at(monkeypatch, url)
        error, category = await _failure(model)
    assert "the answer is not valid HTTP: Got more than 8190 bytes" in error
    assert url in error
    assert category == "connection", "aiohttp's own 400 is not a reply of the provider"

    monkeypatch.setenv("HTTP_PROXY", nobody.replace("http://", "http://me:secret-of-mine@"))
    at(monkeypatch, "http://llm.example.invalid/v1")
    error, _ = await _failure(model)
    assert f"http://llm.example.invalid: the proxy {nobody} cannot be used: the connection was refused" in error
    assert "secret-of-mine" not in error


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """Return a self-signed certificate and the server's TLS context."""
    folder = tmp_path_factory.mktemp("tls")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem"]
    whose = ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*made, *whose], cwd=folder, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return folder / "cert.pem", context


@pytest.mark.sample(1)
@pytest.mark.parametrize("model", ["openai-chat:m", "anthropic:m", "gemini-direct:gemini-2.5-flash"])
async def test_rejected_certificate_is_reported(
    monkeypatch: pytest.MonkeyPatch, certificate: tuple[Path, ssl.SSLContext], model: str
) -> None:
    async with serving(_closes, ssl=certificate[1]) as url:
        url = url.replace("http:", "https:")
        at(monkeypatch, url)
        error, _ = await _failure(model)
    assert f": {url}: the certificate is not accepted: self-signed certificate: " in error
    assert "SSL_CERT_FILE" in error


async def test_loopback_provider_is_called_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of a company cannot reach servers on this machine; other hosts are called through it."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, _nobody())
    with OpenAIServer() as server:
        for host in ("127.0.0.1", "localhost", "127.0.0.2"):
            at(monkeypatch, server.base_url.replace("127.0.0.1", host))
            (result,) = await answers("openai-chat:m", "hello")
            if host == "127.0.0.2":  # where the server does not listen
                assert "the connection was refused" in str(result.error)
                assert "proxy" not in str(result.error)
            else:
                assert result.error is None


@pytest.mark.parametrize(("known", "kept"), [("", ""), ("corp.example, 10.0.0.1", "corp.example,10.0.0.1,")])
def test_child_processes_use_no_proxy_for_loopback(monkeypatch: pytest.MonkeyPatch, known: str, kept: str) -> None:
    monkeypatch.setenv("NO_PROXY", known)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.7:4200/api")
    exclude_loopback_from_proxies()
    assert os.environ["NO_PROXY"] == f"{kept}127.0.0.1,localhost,::1,127.0.0.7"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        (
            "OPENAI_BASE_URL",
            "127.0.0.1:4600/v1",
            "an address must begin with http:// or https://, such as http://127.0.0.1",
        ),
        ("OPENAI_BASE_URL", "localhost:4600", "must begin with http:// or https://, such as http://localhost:4600"),
        ("OPENAI_BASE_URL", "htps://host/v1", "must begin with http:// or https://"),
        ("OPENAI_BASE_URL", "http:///v1", "has no host"),
        ("OPENAI_BASE_URL", "http://host:port/v1", "write it like https://host:443/v1"),
        ("OPENAI_BASE_URL", "http://host/v1\n", "a space or a line break"),
        ("OPENAI_API_KEY", "sk-abcdefgh\n", "begins or ends with a space or a line break"),
        ("OPENAI_API_KEY", " sk-abcdefgh", "begins or ends with a space or a line break"),
        ("OPENAI_API_KEY", "sk-ab\ncdefgh", "it contains a line break"),
        ("OPENAI_API_KEY", "sk-“abcdefgh”", "it contains the character U+201C"),
        ("OPENAI_API_KEY", "sk-äbcdefgh", "it contains the character U+00E4"),
    ],
)
@pytest.mark.parametrize(
    ("model", "prefix"),
    [
        ("openai-chat:m", "OPENAI"),
        ("openai:m", "OPENAI"),
        ("anthropic:m", "ANTHROPIC"),
        ("google:gemini-2.5-flash", "GOOGLE_GEMINI"),
        ("gemini-direct:gemini-2.5-flash", "GOOGLE_GEMINI"),
    ],
)
def test_invalid_address_or_key_is_refused_before_the_run(
    monkeypatch: pytest.MonkeyPatch, model: str, prefix: str, variable: str, value: str, expected: str
) -> None:
    name = variable.replace("OPENAI", prefix).replace("GOOGLE_GEMINI_API", "GOOGLE_API")
    monkeypatch.setenv(name, value)
    with pytest.raises(JobError) as caught:
        check_model(job(model=model))
    assert expected in str(caught.value)
    assert str(caught.value).startswith(f"{name} ")
    assert "abcdefgh" not in str(caught.value), "no key is shown"
    assert "\n" not in str(caught.value)


def test_address_of_another_provider_is_not_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "nonsense")
    check_model(job(model="openai-chat:m"))


@pytest.mark.sample(1)
@pytest.mark.parametrize("proxy", ["ftp://proxy:80", "http://proxy:99999", "proxy:port"])
def test_unusable_proxy_is_refused_before_the_run(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(JobError, match=f"HTTPS_PROXY is '(http://)?{proxy}', which cannot be used as a proxy"):
        check_model(job(model="openai-chat:m"))
    monkeypatch.setenv("HTTPS_PROXY", "proxy.corp.example:3128")
    check_model(job(model="openai-chat:m"))
