"""The loopback servers behave as their docstrings describe, because other tests depend on it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import aiohttp
import pytest

from tests.support.schema_answers import fit
from tests.support.servers import CUT, HANG, HTML_502, RESET, OpenAIServer, Reply

QUESTION: dict[str, Any] = {"model": "gpt", "messages": [{"role": "user", "content": "one two three"}]}


async def _ask(server: OpenAIServer, timeout: float = 5) -> tuple[int, Any]:
    limit = aiohttp.ClientTimeout(total=timeout)
    url = f"{server.base_url}/chat/completions"
    async with aiohttp.ClientSession(timeout=limit) as session, session.post(url, json=QUESTION) as response:
        return response.status, await response.json()


async def test_a_healthy_server_echoes_and_counts(openai_server: OpenAIServer) -> None:
    """Without a script, the answer is the prompt, and both are counted by words."""
    status, body = await _ask(openai_server)
    assert (status, body["choices"][0]["message"]["content"]) == (200, "one two three")
    assert (openai_server.requests, openai_server.input_tokens, openai_server.output_tokens) == (1, 3, 3)
    assert openai_server.prompts["one two three"] == openai_server.answered["one two three"] == 1


async def test_scripted_replies_come_before_the_rule(openai_server: OpenAIServer) -> None:
    """Scripted replies are served in order, then the rule's reply, then healthy answers."""
    openai_server.script(OpenAIServer.rate_limit(1), OpenAIServer.server_error())
    openai_server.rule = lambda call: OpenAIServer.no_such_model() if openai_server.requests == 3 else None
    assert [(await _ask(openai_server))[0] for _ in range(4)] == [429, 500, 404, 200]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (HANG, TimeoutError),
        (CUT, aiohttp.ClientPayloadError),
        (RESET, aiohttp.ClientError),
        (HTML_502, aiohttp.ContentTypeError),
    ],
)
async def test_faults_reach_the_client(openai_server: OpenAIServer, reply: Reply, error: type[Exception]) -> None:
    """A hang, a truncated body, a reset and an HTML page cause the same errors as with a real provider."""
    openai_server.script(reply)
    with pytest.raises(error):
        await _ask(openai_server, timeout=0.1)
    assert openai_server.answered.total() == 0


async def test_max_in_flight_is_measured(openai_server: OpenAIServer) -> None:
    """`max_in_flight` is the largest number of requests served at once."""
    openai_server.latency = 0.05
    await asyncio.gather(*(_ask(openai_server) for _ in range(5)))
    assert openai_server.max_in_flight == 5


def test_healthy_answers_match_the_schema() -> None:
    """References, enums, unions, arrays and bounds are respected."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "title": {"type": "string", "maxLength": 3},
            "kind": {"$ref": "#/$defs/Kind"},
            "tags": {"type": "ARRAY", "items": {"type": "STRING"}, "minItems": 2},
            "score": {"anyOf": [{"type": "number", "minimum": 1}, {"type": "null"}]},
        },
        "$defs": {"Kind": {"enum": ["a", "b"]}},
    }
    assert fit(schema, "text") == {"title": "tex", "kind": "a", "tags": ["text", "text"], "score": 1}


def test_server_can_be_started_from_the_shell() -> None:
    """`python -m tests.support.servers` prints the server's URL."""
    command = [sys.executable, "-m", "tests.support.servers", "gemini", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.terminate()
