"""Settings that a model ignores are those that its requests do not contain."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from batch_llm.jobs.models.factory import make_strategy
from batch_llm.jobs.models.ignored_settings import ignored_settings
from tests.support.jobs import job
from tests.support.servers import OpenAIServer

SENT_AS = {"max_tokens": "max_completion_tokens"}


@pytest.mark.parametrize(
    ("model", "settings", "ignored"),
    [
        ("gpt-6-luna", {"temperature": 0, "max_tokens": 50}, ("temperature",)),
        ("gpt-6-luna", {"temperature": 0, "openai_reasoning_effort": "none"}, ()),
        ("o3", {"top_p": 0.5, "temperature": 0}, ("top_p", "temperature")),
        ("gpt-4.1-mini", {"temperature": 0, "max_tokens": 50}, ()),
    ],
)
async def test_ignored_settings_are_not_in_the_request(
    model: str, settings: dict[str, Any], ignored: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with OpenAIServer() as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "test-key-that-is-no-secret")
        made = job(model=f"openai-chat:{model}", model_settings=settings)
        assert ignored_settings(made) == ignored
        strategy = make_strategy(made)
        await strategy.prepare()
        with pytest.warns(UserWarning, match=ignored[0]) if ignored else nullcontext():
            await strategy.execute("text", 1, 10)
        await strategy.cleanup()
    body = provider.calls[-1].body
    for name in settings.keys() - {"openai_reasoning_effort"}:
        assert (SENT_AS.get(name, name) in body or name in body) is (name not in ignored)


def test_models_without_a_provider_ignore_nothing() -> None:
    assert ignored_settings(job(model="local", model_settings={"temperature": 0})) == ()


def test_ignored_settings_are_known_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """`batch-llm show` needs none."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert ignored_settings(job(model="openai-chat:gpt-6-luna", model_settings={"temperature": 0})) == ("temperature",)
