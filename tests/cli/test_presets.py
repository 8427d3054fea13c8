"""Presets that are read from files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from batch_llm.cli.actions.deploy import file_for
from batch_llm.cli.presets import find_preset, presets_file, read_file, read_presets
from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob
from tests.support.command import batch_llm_here


def test_every_shipped_preset_is_a_job() -> None:
    presets = read_presets()
    assert list(presets) == ["summarize", "summarize-nightly", "classify", "extract"]
    for preset in presets.values():
        BatchJob.parse(preset.parameters)


def test_the_nightly_preset_has_a_schedule_that_is_off() -> None:
    assert find_preset("summarize-nightly").schedule == "0 2 * * * Europe/Berlin (off)"
    assert find_preset("summarize").schedule == ""


def test_an_unknown_preset_lists_the_existing_ones() -> None:
    with pytest.raises(JobError, match=r"did you mean 'summarize'.*classify, extract"):
        find_preset("sumarize")


def test_an_unknown_preset_says_which_files_were_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in a preset are relative to the working folder, so a file of a parent folder is named, not used."""
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.setenv("BATCH_LLM_HOME", str(inner))
    own = inner / "batch-llm.yaml"
    with pytest.raises(JobError) as caught:
        find_preset("tickets")
    assert f"(read from {presets_file()} and {own}, which does not exist)" in str(caught.value)
    (tmp_path / "batch-llm.yaml").write_text("deployments: [{name: tickets}]")
    own.write_text("deployments: [{name: letters}]")
    with pytest.raises(JobError) as caught:
        find_preset("tickets")
    assert str(caught.value).endswith(f"and {own}; to use {tmp_path}/batch-llm.yaml, run the command in {tmp_path})")


@pytest.mark.parametrize("text", ["", "deployments: 5", "deployments: [{parameters: {}}]", "a: [", "- 1", "# caf\xe9"])
def test_a_file_without_presets_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "prefect.yaml"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(JobError) as caught:
        read_file(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_prefect_placeholder_in_a_preset_is_one_line(tmp_path: Path) -> None:
    """Prefect rejects placeholders in a deployment, or resolves them only once."""
    file = tmp_path / "prefect.yaml"
    value = "{__prefect_kind: workspace_variable, variable_name: x}"
    file.write_text(f"deployments: [{{name: tickets, parameters: {{budget_tokens: {value}}}}}]")
    with pytest.raises(
        JobError, match=r"budget_tokens of preset 'tickets' is a placeholder.* batch_llm_settings"
    ) as caught:
        read_file(file)
    assert "\n" not in str(caught.value)


def test_two_presets_of_one_name_are_an_error(tmp_path: Path) -> None:
    """One of two presets of the same name would never run, without a message."""
    file = tmp_path / "batch-llm.yaml"
    file.write_text("deployments: [{name: tickets}, {name: letters}, {name: tickets}]")
    with pytest.raises(JobError, match=r"batch-llm\.yaml has more than one preset called 'tickets'"):
        read_file(file)


def test_files_of_a_preset_are_relative_to_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is missing is an error of its preset only."""
    monkeypatch.setenv("BATCH_LLM_HOME", str(tmp_path))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "prompt.txt").write_text("Is this urgent? {text}\n")
    file = tmp_path / "batch-llm.yaml"
    file.write_text("""
deployments:
  - name: tickets
    parameters: {source: a.csv, output: a.jsonl, prompt: "@texts/prompt.txt", cached_context: "@texts/book.txt"}
  - name: letters
    parameters: {prompt: "@texts/none.txt"}
""")
    found = find_preset("tickets")
    assert found.parameters["prompt"] == found.block["parameters"]["prompt"] == "Is this urgent? {text}"
    assert found.parameters["cached_context"] == f"@{tmp_path}/texts/book.txt"
    with pytest.raises(JobError, match=r"prompt: cannot read the file .*/texts/none.txt"):
        find_preset("letters")


def test_a_deployed_preset_contains_the_text_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker on another machine does not have the files."""
    monkeypatch.setenv("BATCH_LLM_HOME", str(tmp_path))
    (tmp_path / "prompt.txt").write_text("Is this urgent? {text}")
    file = tmp_path / "batch-llm.yaml"
    file.write_text("deployments: [{name: a, parameters: {prompt: '@prompt.txt'}}, {name: b, work_pool: {name: p}}]")
    preset = find_preset("a")
    with file_for(file, {"a": preset}, None) as written:
        first, second = yaml.safe_load(written.read_text())["deployments"]
    assert (first["parameters"], second) == (preset.parameters, {"name": "b", "work_pool": {"name": "p"}})
    with file_for(file, {"b": find_preset("b")}, None) as written:
        assert written == file


@pytest.mark.parametrize(
    ("schedules", "problem"),
    [
        ("schedules: [{cron: '99 * * * *'}]", 'Invalid cron string: "99 * * * *"'),
        ("schedules: [{cron: '0 2 * * *', timezone: Europe/Nowhere}]", "Europe/Nowhere"),
        ("schedule: {cron: '0 2 * * *'}", "schedule is not a key of a deployment: did you mean schedules?"),
        ("schedules: [{cron: '0 2 * * *'}, {interval: 60}]", ""),
    ],
)
def test_presets_names_a_schedule_that_cannot_be_deployed(tmp_path: Path, schedules: str, problem: str) -> None:
    file = tmp_path / "batch-llm.yaml"
    file.write_text(f"deployments: [{{name: tickets, entrypoint: 'flows/batch.py:batch', {schedules}}}]")
    shown = batch_llm_here("presets", folder=tmp_path).stdout
    assert (f"Warning: the preset tickets in {file} cannot be deployed: " in shown) == bool(problem)
    assert problem in shown
    found = json.loads(batch_llm_here("presets", "--json", folder=tmp_path).stdout)
    assert problem in next(preset["problem"] for preset in found if preset["name"] == "tickets")
