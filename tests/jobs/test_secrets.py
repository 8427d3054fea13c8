"""A job that contains a key is rejected, and the error does not show the key."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob
from batch_llm.jobs.secrets import key_missing

JOB: dict[str, Any] = {"source": "samples", "prompt": "{text}", "output": "out.jsonl"}
KEY = "sk-proj-abcdef1234567890"


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"extra_headers": {"Authorization": "Bearer of-a-long-token"}}, "extra_headers.Authorization"),
        ({"extra_headers": {"x-api-key": "of-a-long-token"}}, "extra_headers.x-api-key"),
        ({"extra_body": {"auth": [{"api_key": "of-a-long-token"}]}}, "extra_body.auth.api_key"),
        ({"api_key": KEY}, "api_key"),
        ({"extra_headers": {"X-Auth": "of-a-long-token"}}, "extra_headers.X-Auth"),
        ({"extra_headers": {"X-Project": "ghp_abcdefghijklmnopqrstuvwxyz0123456789"}}, "extra_headers.X-Project"),
        ({"extra_query": {"sig": "of-a-long-token", "signature": "of-a-long-token"}}, "extra_query.signature"),
        ({"openai_user": KEY}, "openai_user"),
    ],
)
def test_key_in_the_settings_is_refused(settings: dict[str, Any], place: str) -> None:
    with pytest.raises(JobError, match="looks like a key") as caught:
        BatchJob.parse({**JOB, "model_settings": settings})
    assert place in str(caught.value)
    assert "OPENAI_API_KEY" in str(caught.value), "what to do"
    assert KEY not in str(caught.value)
    assert "of-a-long-token" not in str(caught.value)


@pytest.mark.parametrize("variable", ["MISTRAL_API_KEY", "AWS_SECRET_ACCESS_KEY", "PREFECT_API_AUTH_STRING"])
@pytest.mark.parametrize("setting", ["prompt", "source", "instructions"])
def test_a_key_of_the_environment_is_refused_anywhere(
    monkeypatch: pytest.MonkeyPatch, setting: str, variable: str
) -> None:
    monkeypatch.setenv(variable, "of-no-particular-shape")
    with pytest.raises(JobError, match=f"{setting} contains the value of {variable}") as caught:
        BatchJob.parse({**JOB, setting: "with of-no-particular-shape in it"})
    assert "of-no-particular-shape" not in str(caught.value)


def test_ordinary_settings_are_accepted() -> None:
    """Token limits are not tokens, and a prompt may mention passwords."""
    settings: dict[str, Any] = {"max_tokens": 5, "extra_headers": {"x-title": "nightly"}, "stop_sequences": ["token"]}
    job = BatchJob.parse({**JOB, "prompt": "The password: swordfish99 {text}", "model_settings": settings})
    assert job.model_settings == settings


def test_missing_key_error_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(key_missing("mistral:m", ("MISTRAL_API_KEY",))))
    assert error.variables == ("MISTRAL_API_KEY",)
    assert "set MISTRAL_API_KEY in the environment" in str(error)
    assert "a Secret block named 'mistral-api-key'" in str(error)
