"""A job's settings: defaults that work, and one line for a value that does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batch_llm.config import Limits, ProcessorConfig, RetryConfig
from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob, home, project_folder, resolve, with_absolute_paths

_LEAST = {"source": "docs.jsonl", "prompt": "{text}", "output": "out.jsonl"}


def test_three_settings_make_a_job() -> None:
    """Source, prompt and output are enough; the rest has defaults."""
    made = BatchJob.parse(_LEAST)
    assert (made.model, made.shard_size, made.failure_threshold) == ("local", None, 0.1)
    assert made.shard_retry == RetryConfig(max_attempts=3, initial_wait=30, max_wait=600)
    assert made.config == ProcessorConfig()


def test_job_round_trips_through_json() -> None:
    """A run gets the same job that a deployment stores."""
    made = BatchJob.parse({**_LEAST, "config": {"max_workers": 7, "retry": {"max_attempts": 2}}, "limit": 3})
    assert BatchJob.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"shard_size": 0}, "shard_size is 0: must be 1 or more"),
        ({"failure_threshold": 2}, "failure_threshold is 2: must be 1 or less"),
        ({"output": "out.txt"}, "output is 'out.txt': the file extension must be one of .jsonl, .parquet, .csv"),
        ({"prompt": ""}, "prompt is '': must not be empty"),
        ({"modle": "local"}, "modle is not a setting: did you mean 'model'?"),
        ({"config": {"max_worker": 1}}, "config.max_worker is not a setting: did you mean 'config.max_workers'?"),
        ({"max_workers": 3}, "max_workers is not a setting: did you mean 'config.max_workers'?"),
        ({"temprature": 0}, "temprature is not a setting: did you mean 'model_settings.temperature'?"),
        (
            {"requests_per_minute": 9},
            "requests_per_minute is not a setting: did you mean 'limits.requests_per_minute'?",
        ),
        (
            {"config": {"max_attempts": 9}},
            "config.max_attempts is not a setting: did you mean 'config.retry.max_attempts'?",
        ),
        ({"prompt": None, "promt": "{text}"}, "promt is not a setting: did you mean 'prompt'?"),
        ({"config": {"max_workers": 0}}, "config: ProcessorConfig.max_workers is 0; it must be 1 or more: raise it"),
        ({"name": "My Batch"}, "name is 'My Batch': must be lower-case letters, digits and '-'"),
        ({"output_schema": {"type": "string"}}, "output_schema: it must describe an object with properties"),
        ({"output_schema": {"type": "objekt"}}, "output_schema: it is not a valid JSON Schema, at type"),
        (
            {"runner": "prozesses"},
            "runner is 'prozesses': must be one of 'auto', 'threads', 'processes', 'pool', 'dask' or 'ray'",
        ),
        (
            {"runner_options": {"process": 2}},
            "runner_options.process is not a setting: did you mean 'runner_options.processes'?",
        ),
        ({"runner_options": {"processes": 0}}, "runner_options: processes is 0; it must be 1 or more"),
        (
            {"runner_options": {"processes": "two"}},
            "runner_options.processes is 'two': input should be a valid integer",
        ),
        ({"runner_options": {"processes": 2}}, "runner_options.processes is not used by the runner 'auto': remove it"),
        ({"prices": {"input_mtok": 1}}, "prices: output_mtok is missing: set it, in USD per million tokens"),
        ({"prices": {"input": 1}}, "prices: unknown price 'input': use input_mtok, output_mtok, cached_input_mtok"),
        ({"prices": {"m": {"input_mtok": "x"}}}, "prices: m: input_mtok is 'x': it must be USD per million tokens"),
        ({"prices": {}}, "prices: input_mtok is missing"),
        ({"limits": {"m": {"requests": 1}}}, "limits: m: unknown limit 'requests': use requests_per_minute, "),
        ({"limits": {"m": {"requests_per_minute": 0}}}, "limits: m: Limits.requests_per_minute is 0; it must be"),
        ({"limits": {"m": {}, "requests_per_minute": 1}}, "limits.m is not a setting: use requests_per_minute, "),
        ({"limit": "many"}, "limit is 'many': input should be a valid integer"),
    ],
)
def test_invalid_setting_is_reported_in_one_line(settings: dict[str, Any], line: str) -> None:
    """The line contains the setting, its value and the rule."""
    with pytest.raises(JobError) as error:
        BatchJob.parse({**_LEAST, **settings})
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


def test_limits_can_be_set_per_model() -> None:
    """A job uses the limits of its model, or none."""
    limits = {"openai-chat:m": {"requests_per_minute": 600}, "google:m": {"tokens_per_minute": 1000}}
    jobs = [BatchJob.parse({**_LEAST, "limits": limits, "model": model}) for model in (*limits, "local")]
    assert [job.limits for job in jobs] == [Limits(requests_per_minute=600), Limits(tokens_per_minute=1000), Limits()]
    assert BatchJob.parse(jobs[0].model_dump()) == jobs[0]


def test_a_missing_setting_is_named() -> None:
    """The error names the first missing setting."""
    with pytest.raises(JobError, match="prompt is missing: set it"):
        BatchJob.parse({"source": "a", "output": "b.csv"})


def test_every_setting_is_described_for_the_form() -> None:
    """The UI shows a title and a description for each parameter."""
    for name, field in BatchJob.model_fields.items():
        assert field.title, name
        assert field.description, name


def test_relative_paths_start_where_the_command_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In BATCH_LLM_HOME, otherwise the working directory; an absolute path is unchanged."""
    monkeypatch.setenv("BATCH_LLM_HOME", str(tmp_path))
    assert resolve("a/b.csv") == tmp_path / "a" / "b.csv"
    assert resolve("/a.csv") == Path("/a.csv")
    monkeypatch.delenv("BATCH_LLM_HOME")
    assert home() == Path.cwd()


def test_job_for_other_processes_has_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths that shards read are absolute; other values are unchanged."""
    monkeypatch.setenv("BATCH_LLM_HOME", str(tmp_path))
    near = with_absolute_paths(BatchJob.parse({**_LEAST, "ledger": "kept", "cached_context": "@rules.md"}))
    assert (near.ledger, near.cached_context) == (str(tmp_path / "kept"), f"@{tmp_path / 'rules.md'}")
    far = with_absolute_paths(BatchJob.parse({**_LEAST, "ledger": "memory://kept", "cached_context": "Be brief."}))
    assert (far.ledger, far.cached_context) == ("memory://kept", "Be brief.")


def test_the_project_folder_is_the_checkout() -> None:
    """In a checkout the flows and presets are next to the package."""
    assert (project_folder() / "batch_llm" / "jobs").is_dir()
