"""`batch-llm try`: real answers of one or several models to the first rows, without a server and without a ledger."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batch_llm.jobs.trial import Agreement, Trial, TrialAnswer, agreement
from tests.support.command import COMMAND, batch_llm_here, environment
from tests.support.jobs import write_lines
from tests.support.prefect_server import eventually
from tests.support.servers import Call, OpenAIServer, Reply

OTHER, MINI = "openai-chat:gpt-4o-mini", "openai-chat:gpt-4.1-mini"
TRY = ["try", "summarize", "--model", MINI]
DOCS = ["--source", "docs.jsonl"]
PLAIN = ["-p", "output_schema=null"]


@pytest.fixture
def provider() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def env(provider: OpenAIServer, tmp_path: Path) -> dict[str, str]:
    write_lines(tmp_path / "docs.jsonl", *({"id": f"d{n}", "text": f"document {n}"} for n in range(1, 11)))
    return {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "no-secret", "COLUMNS": "200"}


def tried(folder: Path, env: dict[str, str], *arguments: str, code: int = 0) -> str:
    done = batch_llm_here(*TRY, *DOCS, *arguments, folder=folder, **env)
    assert done.returncode == code, done.stderr
    return done.stdout


def test_answers_are_printed_next_to_their_prompts(tmp_path: Path, env: dict[str, str], provider: OpenAIServer) -> None:
    lines = [" ".join(line.split()) for line in tried(tmp_path, env, *PLAIN).splitlines()]
    assert provider.requests == 3
    start = lines.index("d1")
    assert lines[start : start + 3] == ["d1", "prompt document 1", "answer document 1"]
    assert re.fullmatch(r"\(\d+ tokens in, \d+ out, \$0\.\d+, \d+\.\d s\)", lines[start + 3])
    totals = lines[lines.index("model answered tokens in tokens out cost median all rows") + 1].split()
    assert totals[:4] == [MINI, "3/3", f"{provider.input_tokens}", f"{provider.output_tokens}"]


def test_nothing_is_stored(tmp_path: Path, env: dict[str, str], provider: OpenAIServer) -> None:
    """A later run cannot reuse an answer of a trial."""
    before = {path.name for path in tmp_path.iterdir()}
    for _ in range(2):
        tried(tmp_path, env, *PLAIN)
    assert provider.requests == 6
    assert {path.name for path in tmp_path.iterdir()} == before


def test_models_are_compared_on_the_same_rows(tmp_path: Path, env: dict[str, str], provider: OpenAIServer) -> None:
    def rule(call: Call) -> Reply | None:
        is_urgent = call.body["model"] == "gpt-4o-mini" and call.prompt.endswith("2")
        return OpenAIServer.text(json.dumps({"urgent": is_urgent, "topic": "ferry"}))

    provider.rule = rule
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"urgent": {"type": "boolean"}, "topic": {"type": "string"}},
        "required": ["urgent", "topic"],
    }
    typed = ["--model", OTHER, "--limit", "4", "-p", f"output_schema={json.dumps(schema)}"]
    found = json.loads(tried(tmp_path, env, *typed, "--json"))
    assert found["agreement"] == {"urgent": {"same": 3, "rows": 4}, "topic": {"same": 4, "rows": 4}}
    assert list(found["models"]) == [MINI, OTHER]
    assert all((model["answered"], model["failed"]) == (4, 0) for model in found["models"].values())
    assert sum(model["input_tokens"] for model in found["models"].values()) == provider.input_tokens
    assert found["models"][MINI]["cost_usd"] > 0
    second = found["rows"][1]
    assert (second["id"], second["prompt"]) == ("d2", "document 2")
    assert [second["answers"][model]["output"]["urgent"] for model in (MINI, OTHER)] == [False, True]
    shown = tried(tmp_path, env, *typed)
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert lines[lines.index("field same answer") + 1 :][:2] == ["urgent 3 of 4 rows", "topic 4 of 4 rows"]


def test_a_setting_that_the_model_ignores_is_a_warning(tmp_path: Path, env: dict[str, str]) -> None:
    typed = [
        "try",
        "summarize",
        *DOCS,
        *PLAIN,
        "--model",
        "openai-chat:gpt-6-luna",
        "-p",
        "model_settings.temperature=0",
    ]
    lines = batch_llm_here(*typed, folder=tmp_path, **env).stdout.splitlines()
    (warning,) = [line for line in lines if line.startswith("Warning: openai-chat:gpt-6-luna: ")]
    assert "temperature" in warning


def test_a_row_that_fails_is_shown_with_its_error(tmp_path: Path, env: dict[str, str], provider: OpenAIServer) -> None:
    provider.rule = lambda call: OpenAIServer.too_long() if call.prompt.endswith("2") else None
    shown = tried(tmp_path, env, *PLAIN, code=1)
    assert "invalid_request: " in shown
    assert "2/3" in shown
    found = json.loads(tried(tmp_path, env, *PLAIN, "--json", code=1))
    assert found["models"][MINI]["failed"] == 1
    assert found["rows"][1]["answers"][MINI]["error_category"] == "invalid_request"


def test_an_unreadable_row_is_not_called(tmp_path: Path, env: dict[str, str], provider: OpenAIServer) -> None:
    write_lines(
        tmp_path / "docs.jsonl", {"id": "a", "text": ""}, {"id": "a", "text": "one"}, {"id": "a", "text": "two"}
    )
    found = json.loads(tried(tmp_path, env, *PLAIN, "--json", code=1))
    assert [row["answers"][MINI]["error_category"] for row in found["rows"]] == ["invalid_input", None, None]
    assert provider.requests == 2


@pytest.mark.whole
def test_ctrl_c_is_one_line(tmp_path: Path, env: dict[str, str], provider: OpenAIServer) -> None:
    provider.latency = 30.0
    command = [*COMMAND, *TRY, *DOCS, *PLAIN]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path, **env), stderr=subprocess.PIPE, text=True
    ) as process:
        eventually(lambda: provider.requests > 0, seconds=60)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "batch-llm: stopped; no answer is stored"
    assert "Traceback" not in said


def test_all_models_are_checked_before_the_first_call(
    tmp_path: Path, env: dict[str, str], provider: OpenAIServer
) -> None:
    done = batch_llm_here(*TRY, *DOCS, "--model", "nobody:gpt", "--json", folder=tmp_path, **env)
    assert done.returncode == 2
    assert "nobody:gpt" in json.loads(done.stdout)["error"]
    assert provider.requests == 0


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--limit", "0"], "--limit is 0: a trial has from 1 to 100 rows"),
        (["--limit", "101"], "--limit is 101: a trial has from 1 to 100 rows"),
        (["--prompt", "hello"], "the prompt uses no column"),
        (["--prompt", "{body}"], "the prompt uses column 'body'"),
        (["--source", "none.csv"], "none.csv does not exist"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, env: dict[str, str], arguments: list[str], line: str) -> None:
    source = [] if "--source" in arguments else DOCS
    done = batch_llm_here(*TRY, *source, *arguments, folder=tmp_path, **env)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("batch-llm: ")
    assert line in done.stderr


@pytest.mark.whole
def test_the_command_does_not_import_prefect(tmp_path: Path, env: dict[str, str]) -> None:
    look = f"import sys; from batch_llm.cli import main; main({[*TRY, *DOCS]}); sys.exit('prefect' in sys.modules)"
    subprocess.run(
        [sys.executable, "-c", look], cwd=tmp_path, env=environment(tmp_path, **env), check=True, capture_output=True
    )


def answers(*outputs: Any) -> Trial:
    made = [
        TrialAnswer(output, *((None, None) if output is not None else ("timeout", "late")), 1, 1, 0.5, 1, 1, None)
        for output in outputs
    ]
    return Trial("m", tuple(made), 1.0)


def test_only_rows_that_all_models_answered_are_compared() -> None:
    first = answers({"a": 1, "b": [1]}, {"a": 1}, None, "text")
    second = answers({"a": 1, "b": [2]}, {"a": 2, "b": 1}, {"a": 1}, "text")
    assert agreement([first, second]) == {"a": Agreement(1, 3), "b": Agreement(0, 3), "answer": Agreement(1, 3)}
    assert agreement([first, second, answers(None, None, None, None)]) == {}


def test_totals_of_a_trial_without_prices_and_calls() -> None:
    trial = answers("yes", None)
    assert (trial.answered, trial.cost_usd, trial.median_seconds) == (1, 1.0, 1)
    unpriced = Trial("m", (TrialAnswer("yes", None, None, 1, 1, None, 1, 1, None),), 1.0)
    assert unpriced.cost_usd is None
    assert Trial("m", (TrialAnswer(None, "invalid_input", "empty", 0, 0, 0.0, 0, 0, None),), 0.0).median_seconds is None
