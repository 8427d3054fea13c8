"""Options that set a job's settings, and variables from `.env`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from batch_llm.cli.options import JobOptions
from batch_llm.cli.overrides import repeatable_parameters
from batch_llm.cli.presets import Preset
from tests.support.command import batch_llm_here

SECRET = "a-value-that-nobody-may-see"


def applied(**options: Any) -> dict[str, Any]:
    preset = Preset("tickets", {"name": "tickets", "config": {"timeout_per_item": 9}}, {}, Path("batch-llm.yaml"))
    return JobOptions(**options).apply(preset)


def test_options_set_the_usual_settings() -> None:
    found = applied(max_workers=20, budget_usd=1.5, name="other", shard_size=7, refresh=True)
    assert found == {
        "name": "other",
        "config": {"timeout_per_item": 9, "max_workers": 20},
        "budget_usd": 1.5,
        "shard_size": 7,
        "refresh": True,
    }
    assert applied() == {"name": "tickets", "config": {"timeout_per_item": 9}}


def test_an_option_overrides_an_assignment_and_keeps_the_rest_of_an_object() -> None:
    found = applied(max_workers=20, param=["config.max_workers=5", "config.retry.max_attempts=2"])
    assert found["config"] == {"timeout_per_item": 9, "max_workers": 20, "retry": {"max_attempts": 2}}


def test_new_stores_these_options_in_the_preset(tmp_path: Path) -> None:
    (tmp_path / "docs.csv").write_text("text\nhello\n")
    typed = ["new", "tickets", "--source", "docs.csv", "--prompt", "{text}", "--max-workers", "20", "--name", "mine"]
    assert batch_llm_here(*typed, folder=tmp_path).returncode == 0
    written = (tmp_path / "batch-llm.yaml").read_text()
    assert "max_workers: 20" in written
    assert "name: mine" in written


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        (["--max-worker", "5"], "--max-workers"),
        (["--budget", "5"], "--budget-usd"),
        (["-p", "max_workers=5"], "config.max_workers"),
        (["-p", "config.max_worker=5"], "config.max_workers"),
        (["-p", "temperature=0"], "model_settings.temperature"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(tmp_path: Path, typed: list[str], nearest: str) -> None:
    done = batch_llm_here("show", "summarize", *typed, folder=tmp_path)
    assert done.returncode == 2
    assert nearest in done.stderr


def test_variables_of_env_are_used_and_existing_ones_win(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"# keys\nexport OPENAI_API_KEY='{SECRET}'\nPREFECT_HOME=/elsewhere\n")
    show = ["show", "summarize", "--model", "openai-chat:gpt-6-luna", "--json"]
    done = batch_llm_here(*show, folder=tmp_path)
    assert json.loads(done.stdout)["problem"] == ""
    assert SECRET not in done.stdout + done.stderr
    (tmp_path / ".env").unlink()
    del os.environ["OPENAI_API_KEY"]
    assert "OPENAI_API_KEY" in json.loads(batch_llm_here(*show, folder=tmp_path).stdout)["problem"]


def test_a_key_of_env_is_refused_in_a_setting_without_being_shown(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"OPENAI_API_KEY={SECRET}\n")
    done = batch_llm_here("show", "summarize", "--instructions", f"use {SECRET}", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "instructions contains the value of OPENAI_API_KEY" in done.stderr
    assert SECRET not in done.stderr


@pytest.mark.parametrize("content", [b"KEY=caf\xe9", b"KEY=a\0b"])
def test_an_unreadable_env_is_one_line_without_its_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".env").write_bytes(content)
    done = batch_llm_here("presets", folder=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"batch-llm: {tmp_path}/.env is not UTF-8 text")


def test_the_files_of_options_are_relative_to_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "docs.csv").write_text("text\nhello\n")
    (tmp_path / "prompt.txt").write_text("Say {text}.\n")
    typed = ["--source", "docs.csv", "--prompt", "@prompt.txt"]
    shown = json.loads(batch_llm_here("show", "summarize", *typed, "--json", folder=tmp_path).stdout)
    assert shown["first"]["prompt"] == "Say hello."
    assert batch_llm_here("new", "mine", *typed, folder=tmp_path).returncode == 0
    assert "prompt: '@prompt.txt'" in (tmp_path / "batch-llm.yaml").read_text()
    assert (
        json.loads(batch_llm_here("show", "mine", "--json", folder=tmp_path).stdout)["first"]["prompt"] == "Say hello."
    )


def test_a_run_gets_the_text_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run can be repeated from the UI, and on a machine without the file."""
    monkeypatch.setenv("BATCH_LLM_HOME", str(tmp_path))
    (tmp_path / "rules.md").write_text("Be brief.")
    assert repeatable_parameters({"instructions": "@rules.md"})["instructions"] == "Be brief."


def test_a_prompt_without_a_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "docs.csv").write_text("text\none\ntwo\n")
    done = batch_llm_here("run", "summarize", "--source", "docs.csv", "--prompt", "hello", folder=tmp_path)
    assert done.returncode == 2
    assert "--constant-prompt" in done.stderr


def test_show_names_the_settings_that_the_model_ignores(tmp_path: Path) -> None:
    show = ["show", "summarize", "--model", "openai-chat:gpt-6-luna", "-p", "model_settings.temperature=0"]
    line = "openai-chat:gpt-6-luna ignores temperature: remove it from model_settings"
    assert f"Warning  {line}" in batch_llm_here(*show, folder=tmp_path).stdout
    assert json.loads(batch_llm_here(*show, "--json", folder=tmp_path).stdout)["warnings"] == [line]
