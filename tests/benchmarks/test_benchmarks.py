"""The benchmarks run, at sizes that say nothing about speed: what they count is right."""

from __future__ import annotations

import urllib.request

from .serving import served


def test_a_server_in_a_process_of_its_own_counts_what_it_saw() -> None:
    with served("openai") as server:
        body = b'{"model": "any", "messages": [{"role": "user", "content": "two words"}]}'
        with urllib.request.urlopen(f"{server.url}/chat/completions", body, timeout=10) as answer:
            assert b"two words" in answer.read()
        assert server.stats()["requests"] == 1
        assert server.stats()["input_tokens"] == 2
