"""Common settings: a Prefect Variable sets what presets and runs leave at its default."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.variables import Variable

from batch_llm.jobs import project_folder
from tests.support.command import batch_llm_here
from tests.support.processes import run as command
from tests.support.processes import user_environment
from tests.support.servers import OpenAIServer

from .conftest import FlowOver, Serve

pytestmark = pytest.mark.prefect

TYPED = "prefect variable set batch_llm_settings"


@pytest.fixture
def provider(serve: Serve) -> OpenAIServer:
    return serve()


@pytest.fixture
def run(flow_over: FlowOver) -> Any:
    job: dict[str, Any] = {"prompt": "{text}", "model": "openai-chat:my-model", "config": {"max_workers": 1}}
    return flow_over((f"document {place}" for place in range(8)), **job)


@pytest.fixture
def common(prefect_api: str) -> Iterator[Callable[[str], None]]:
    """Return a function that sets the Variable like Prefect's command: a value that is not JSON is text."""

    def set_it(value: str) -> None:
        try:
            Variable.set("batch_llm_settings", json.loads(value), overwrite=True)
        except ValueError:
            Variable.set("batch_llm_settings", value, overwrite=True)

    yield set_it
    Variable.unset("batch_llm_settings")


def test_setting_of_the_variable_applies_to_a_run(
    run: Any, provider: OpenAIServer, common: Callable[[str], None]
) -> None:
    common(json.dumps({"budget_tokens": 1}))
    state = run(name="common")
    assert state.name == "BudgetReached", state.message
    assert provider.requests <= 1


@pytest.mark.whole
def test_variable_sets_the_defaults_of_runs(
    run: Any, provider: OpenAIServer, common: Callable[[str], None], prefect_api: str, tmp_path: Path
) -> None:
    """Each run reads it again, and the run's own settings take precedence. It is set by the README's command."""
    assert f"\n{TYPED} '{{" in (project_folder() / "deployments" / "README.md").read_text()
    line = (*TYPED.split(), json.dumps({"budget_tokens": 1}), "--overwrite")
    command(*line, env=user_environment(tmp_path, prefect_api), cwd=tmp_path)
    state = run(name="common")
    assert state.name == "BudgetReached", state.message
    assert provider.requests <= 1
    assert run(name="common", budget_tokens=100_000).is_completed()
    common(json.dumps({"budget_tokens": 100_000, "config": {"max_workers": 2}}))
    assert run(name="another").is_completed()


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('{"budget": 5}', "the Variable batch_llm_settings: budget is not a setting: did you mean"),
        ('{"budget_usd": -5}', "the Variable batch_llm_settings: budget_usd is -5: must be more than 0"),
        ('{"output": "out.csv"}', "the Variable batch_llm_settings sets output, which each preset sets itself"),
        ("5", "the Variable batch_llm_settings must be an object such as"),
        ("five", "the Variable batch_llm_settings must be an object such as"),
    ],
)
def test_invalid_setting_in_the_variable_is_reported_in_one_line(
    run: Any, provider: OpenAIServer, common: Callable[[str], None], value: str, said: str
) -> None:
    """An invalid common budget is an error, so that it is not ignored."""
    common(value)
    state = run()
    assert state.is_failed()
    assert said in state.message
    assert provider.requests == 0


@pytest.mark.whole
def test_variable_in_a_parameter_is_resolved_by_prefect(
    prefect_api: str, provider: OpenAIServer, tmp_path: Path
) -> None:
    """Prefect replaces it when it creates the run, and reports a missing one."""
    (tmp_path / "docs.csv").write_text("id,text\na,one\n")
    env = user_environment(tmp_path, prefect_api)
    command("batch-llm", "deploy", "summarize", "--pool", "settings-pool", env=env, cwd=tmp_path)
    Variable.set("nightly_tokens", 77, overwrite=True)
    asked = {"budget_tokens": {"__prefect_kind": "workspace_variable", "variable_name": "nightly_tokens"}}
    line = ("prefect", "deployment", "run", "batch-llm/summarize", "--params")
    assert "'budget_tokens': 77" in command(*line, json.dumps(asked), env=env, cwd=tmp_path)
    Variable.unset("nightly_tokens")
    with pytest.raises(AssertionError, match="Variable 'nightly_tokens' not found"):
        command(*line, json.dumps(asked), env=env, cwd=tmp_path)


def test_preset_that_prefect_rejects_is_reported_in_one_line(prefect_api: str, tmp_path: Path) -> None:
    """Prefect's own message has several pages."""
    preset = {"name": "tickets", "entrypoint": "flows/batch.py:batch", "parameters": {"budget_tokens": "many"}}
    (tmp_path / "batch-llm.yaml").write_text(json.dumps({"deployments": [preset]}))
    done = batch_llm_here("serve", folder=tmp_path, PREFECT_API_URL=prefect_api)
    assert done.returncode == 2
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("batch-llm: preset 'tickets': Validation failed for field 'budget_tokens'")
    assert "Traceback" not in done.stderr
