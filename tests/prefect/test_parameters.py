"""The flow's form in the UI has the titles, descriptions, defaults and rules of the job's fields."""

from __future__ import annotations

from typing import Any

import pytest

import batch_llm.prefect
from batch_llm.jobs import BatchJob
from tests.support.flow_file import load_flow


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return load_flow().parameters.model_dump()


def test_every_field_of_a_job_is_a_parameter(schema: dict[str, Any]) -> None:
    assert set(schema["properties"]) == set(BatchJob.model_fields)


def test_required_are_the_fields_without_a_default(schema: dict[str, Any]) -> None:
    assert set(schema["required"]) == {name for name, field in BatchJob.model_fields.items() if field.is_required()}


@pytest.mark.parametrize("name", list(BatchJob.model_fields))
def test_a_parameter_shows_the_fields_title_and_description(schema: dict[str, Any], name: str) -> None:
    field = BatchJob.model_fields[name]
    assert schema["properties"][name]["title"] == field.title
    assert schema["properties"][name]["description"] == field.description


def test_form_has_the_rules_of_the_fields(schema: dict[str, Any]) -> None:
    assert schema["properties"]["shard_size"]["anyOf"][0]["minimum"] == 1
    assert schema["properties"]["failure_threshold"]["maximum"] == 1
    one, each = schema["properties"]["limits"]["anyOf"]
    assert each == {"type": "object", "additionalProperties": one}
    assert schema["definitions"]["Limits"]["additionalProperties"] is False


def test_form_is_ordered_by_use_and_ends_with_the_engine(schema: dict[str, Any]) -> None:
    shown = sorted(schema["properties"], key=lambda name: schema["properties"][name]["position"])
    assert shown[:6] == ["source", "prompt", "instructions", "model", "output_schema", "output"]
    assert shown.index("limit") < shown.index("budget_usd") < shown.index("limits") < shown.index("runner")
    assert shown[-2:] == ["shard_retry", "config"]


def test_groups_of_settings_describe_each_setting_instead_of_the_class(schema: dict[str, Any]) -> None:
    groups = schema["definitions"]
    assert not any("Attributes:" in group.get("description", "") for group in groups.values())
    for group in groups.values():
        for name, field in group["properties"].items():
            assert field["description"], name
    waits = groups["RetryConfig"]["properties"]["max_wait"]
    assert (waits["title"], waits["description"]) == ("Max wait", "Longest wait in seconds.")


def test_settings_without_effect_in_a_job_are_not_in_the_form(schema: dict[str, Any]) -> None:
    engine = schema["definitions"]["ProcessorConfig"]
    assert list(engine["properties"]) == ["max_workers", "timeout_per_item", "retry"]
    assert engine["additionalProperties"] is True, "presets may still have them"


def test_every_name_of_the_package_is_found_in_its_module() -> None:
    """The package imports a module when one of its names is used first."""
    assert all(getattr(batch_llm.prefect, name) for name in batch_llm.prefect.__all__)
