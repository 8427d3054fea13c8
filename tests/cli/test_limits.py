"""`batch-llm limit`: set, change, show and remove the limits of a scope."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command import batch_llm_here

SCOPE = "openai-chat:of-this-test"


@pytest.mark.prefect
def test_a_limit_is_set_changed_shown_and_removed(prefect_api: str, tmp_path: Path) -> None:
    def limit(*arguments: str) -> tuple[int, str]:
        done = batch_llm_here("limit", *arguments, folder=tmp_path, PREFECT_API_URL=prefect_api)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    assert limit("set", SCOPE, "--requests-per-minute", "3000")[0] == 0
    code, said = limit("set", SCOPE, "--tokens-per-minute", "1e6")
    assert code == 0
    assert f"{SCOPE}: 3,000 requests per minute, 1,000,000 tokens per minute" in said
    assert "3,000 requests per minute" in limit("show")[1]
    shown = batch_llm_here("limit", "show", "--json", folder=tmp_path, PREFECT_API_URL=prefect_api).stdout
    assert json.loads(shown)[SCOPE] == {
        "requests_per_minute": 3000.0,
        "tokens_per_minute": 1_000_000.0,
        "input_tokens_per_minute": None,
        "output_tokens_per_minute": None,
    }
    assert limit("clear", SCOPE)[0] == 0
    code, said = limit("clear", SCOPE)
    assert code == 2
    assert f"no limit is set for '{SCOPE}'" in said


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("set", "m"), "nothing to set: add --requests-per-minute"),
        (("set", "m", "--requests-per-minute", "-1"), "Limits.requests_per_minute is -1.0; it must be greater than 0"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, arguments: tuple[str, ...], line: str) -> None:
    done = batch_llm_here("limit", *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert line in done.stderr
    assert "Traceback" not in done.stderr
