"""Options of the command override settings of a preset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batch_llm.cli.overrides import parse_assignments, repeatable_parameters, with_overrides
from batch_llm.errors import JobError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("limit=5", 5),
        ("refresh=true", True),
        ("output_schema=null", None),
        ('config={"max_workers": 200}', {"max_workers": 200}),
        ("source=docs.csv", "docs.csv"),
        ('name="quoted"', "quoted"),
        ("prompt=a=b {text}", "a=b {text}"),
        ("instructions=", ""),
        ("id_column=007", "007"),
    ],
)
def test_a_value_is_json_if_it_parses(text: str, value: Any) -> None:
    assert list(parse_assignments([text]).values()) == [value]


def test_a_dotted_name_sets_one_value_in_an_object() -> None:
    typed = ["config.max_workers=20", "config.retry.max_attempts=2", 'limits={"requests_per_minute": 60}']
    assert parse_assignments(typed) == {
        "config": {"max_workers": 20, "retry": {"max_attempts": 2}},
        "limits": {"requests_per_minute": 60},
    }
    assert parse_assignments(['config={"max_workers": 5, "jitter": 1}', "config.max_workers=20"]) == {
        "config": {"max_workers": 20, "jitter": 1}
    }


def test_a_part_of_a_schema_cannot_be_set() -> None:
    with pytest.raises(JobError, match="-p: output_schema can only be set as a whole"):
        parse_assignments(['output_schema.properties={"a": {}}'])


@pytest.mark.parametrize("text", ["limit", "=5", " =5", "", ".=5", "config.=5", ".max_workers=5"])
def test_an_assignment_without_a_name_or_sign_says_how_to_write_one(text: str) -> None:
    with pytest.raises(JobError, match="-p: expected name=value, got "):
        parse_assignments([text])


def test_an_object_is_merged_into_the_presets() -> None:
    preset: dict[str, Any] = {"config": {"max_workers": 5, "retry": {"max_attempts": 2, "jitter": False}}}
    merged = with_overrides(preset, {"config": {"max_workers": 200, "retry": {"max_attempts": 9}}})
    assert merged == {"config": {"max_workers": 200, "retry": {"max_attempts": 9, "jitter": False}}}
    assert preset["config"]["max_workers"] == 5, "the preset itself stays as it is"


def test_a_schema_is_replaced_as_a_whole() -> None:
    preset = {"output_schema": {"type": "object", "properties": {"title": {"type": "string"}}}}
    schema = {"type": "object", "properties": {"people": {"type": "array"}}}
    assert with_overrides(preset, {"output_schema": schema}) == {"output_schema": schema}


def test_a_named_option_overrides_an_assignment() -> None:
    assert with_overrides({"limit": 1}, {"limit": 2}, {"limit": 3}) == {"limit": 3}


def test_paths_are_relative_to_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_LLM_HOME", str(tmp_path))
    found = repeatable_parameters({"source": "docs.csv", "output": "out/a.jsonl", "cached_context": "@rules.md"})
    assert found == {
        "source": f"{tmp_path}/docs.csv",
        "output": f"{tmp_path}/out/a.jsonl",
        "ledger": f"{tmp_path}/.batch-llm",
        "cached_context": f"@{tmp_path}/rules.md",
    }


@pytest.mark.parametrize(
    "source",
    ["samples", "s3://bucket/docs/*.jsonl", "https://example.org/a.csv", "select * from 'a.csv'", "/data/a.csv"],
)
def test_other_sources_than_relative_paths_are_unchanged(source: str) -> None:
    assert repeatable_parameters({"source": source})["source"] == source
