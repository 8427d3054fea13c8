"""`batch-llm status`, `results` and `prune` show runs without a server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batch_llm.jobs import merge, plan
from batch_llm.jobs.ledger.records import LedgerWriter, Record
from batch_llm.jobs.storage.store import Store
from tests.support.command import batch_llm, batch_llm_here, environment
from tests.support.jobs import answer, job, read_lines, write_lines


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with a run of three items, of which one timed out."""
    monkeypatch.setenv("BATCH_LLM_HOME", str(tmp_path))
    write_lines(tmp_path / "docs.jsonl", *({"id": name, "text": name} for name in "abc"))
    made_for = job(name="letters")
    made = plan(made_for, "1963ea7d")
    with LedgerWriter(Store(made.folder), made.shards[0].part) as ledger:
        for item in read_lines(made.shards[0].path):
            common: dict[str, Any] = {"id": item["id"], "key": item["key"], "attempts": 1}
            if item["id"] == "b":
                ledger.append(Record(**common, status="failed", category="timeout", error="too slow"))
            else:
                ledger.append(Record(**common, status="succeeded", output="fine", cost_usd=0.5))
    merge(made_for, made)
    return tmp_path


def test_status_shows_a_list_of_runs_or_one_run(home: Path) -> None:
    shown = batch_llm("status", folder=home)
    assert shown.returncode == 0, shown.stderr
    assert [line.split()[:2] for line in shown.stdout.splitlines()[:2]] == [["name", "run"], ["letters", "1963ea7d"]]
    one = batch_llm_here("status", "letters", folder=home).stdout
    for line in ("answered  2 of 3", "failed  1 (1 timeout)", "cost  $1.00", "timeout: too slow"):
        assert line in one
    known = json.loads(batch_llm_here("status", "1963", "--json", folder=home).stdout)
    assert (known["state"], known["succeeded"], known["failed"], known["categories"]) == (
        "failed",
        2,
        1,
        {"timeout": 1},
    )


def test_status_shows_the_budgets_of_a_running_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A monthly budget counts all runs of the name."""
    monkeypatch.setenv("OPENAI_API_KEY", "test-key-that-is-no-secret")
    made_for = job(name="letters", model="openai-chat:gpt-4.1-mini", budget_usd=4, monthly_budget_usd=10, refresh=True)
    answer(made_for, plan(made_for, "2fe01a22"), most=2)
    shown = batch_llm_here("status", "2fe", folder=home).stdout
    assert "answered  2 of 3" in shown
    assert "budget_usd: $1.00 of $4.00 spent; monthly_budget_usd: $2.00 of $10.00 spent this month" in shown


def test_results_are_printed_and_written(home: Path) -> None:
    shown = batch_llm_here("results", "letters", "--where", "error_category = 'timeout'", folder=home).stdout
    assert "too slow" in shown
    assert "1 items of letters 1963ea7d" in shown
    batch_llm_here("results", "--output", "all.jsonl", folder=home)
    assert [(row["id"], row["attempts"]) for row in read_lines(home / "all.jsonl")] == [("b", 1), ("a", 1), ("c", 1)]


def test_results_are_one_json_object_for_a_program(home: Path) -> None:
    shown = batch_llm_here("results", "letters", "--where", "attempts = 1", "--limit", "2", "--json", folder=home)
    found = json.loads(shown.stdout)
    assert (found["name"], found["run"], found["items"]) == ("letters", "1963ea7d", 3)
    failed, answered = found["results"]
    assert (failed["id"], failed["status"], failed["error_category"], failed["error"], failed["output"]) == (
        ("b", "failed", "timeout", "too slow", None)
    )
    assert (answered["id"], answered["status"], answered["output"], answered["reused"]) == (
        ("a", "succeeded", "fine", False)
    )
    written = batch_llm_here("results", "--output", "all.jsonl", "--json", folder=home)
    assert json.loads(written.stdout) == {
        "name": "letters",
        "run": "1963ea7d",
        "items": 3,
        "output": str(home / "all.jsonl"),
    }


def test_bad_input_is_also_an_object_for_a_program(home: Path) -> None:
    done = batch_llm_here("results", "nobody", "--json", folder=home)
    assert done.returncode == 2
    assert f"batch-llm: {json.loads(done.stdout)['error']}\n" == done.stderr


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "command",
    [
        ("status", "nobody"),
        ("status", "--ledger", "nowhere://x"),
        ("results", "--where", "nix = 1"),
        ("results", "--output", "all.txt"),
        ("results", "--limit", "0"),
        ("prune", "nobody"),
        ("prune", "--keep-days", "-1"),
    ],
)
def test_bad_input_is_one_line(home: Path, command: tuple[str, ...]) -> None:
    done = batch_llm_here(*command, folder=home)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("batch-llm: ")


def test_prune_prints_what_it_removes(home: Path) -> None:
    assert "letters: no run is older than 30 days" in batch_llm_here("prune", folder=home).stdout


@pytest.mark.whole
def test_status_does_not_import_prefect(home: Path) -> None:
    """The import takes seconds, and no server is needed."""
    look = "import sys; from batch_llm.cli import main; main(['status']); sys.exit('prefect' in sys.modules)"
    subprocess.run([sys.executable, "-c", look], cwd=home, env=environment(home), check=True, capture_output=True)
