"""User presets: written by a command, shown, and found like shipped ones."""

from __future__ import annotations

import difflib
import json
import shutil
from pathlib import Path

import pytest
import yaml

from batch_llm.cli import main
from batch_llm.cli.actions.new_preset import add_block
from batch_llm.cli.presets import find_preset, presets_file, read_file

NEW = ["new", "tickets", "--source", "docs.csv", "--model", "openai-chat:gpt-6-luna", "--prompt", "Urgent? {body}"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("BATCH_LLM_HOME", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "docs.csv").write_text("id,body\n7,The lift is stuck.\n8,Thanks!\n")
    return tmp_path


def test_a_new_preset_can_be_shown_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`show` needs no key and no server: it prints the first prompt, the rows and what is missing for a run."""
    assert main([*NEW, "--description", "Which tickets cannot wait", "-p", 'model_settings={"temperature": 0}']) == 0
    assert str(folder / "batch-llm.yaml") in capsys.readouterr().out
    assert main(["show", "tickets"]) == 0
    said = capsys.readouterr().out
    for words in ("Which tickets cannot wait", "prompt of 7", "Urgent? The lift is stuck.", "docs.csv, 2 items"):
        assert words in said
    assert "needs a key: set OPENAI_API_KEY" in said
    assert 'openai-chat:gpt-6-luna {"temperature":0}' in said
    assert "output/tickets.jsonl" in said


def test_show_takes_the_options_of_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "summarize", "--source", "docs.csv", "--prompt", "{id}", "--limit", "1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["first"] == {"id": "7", "prompt": "7", "error": None}
    assert shown["items"] == 1
    assert set(shown["output_schema"]["properties"]) == {"title", "summary"}


def test_a_preset_may_start_from_another(folder: Path) -> None:
    schema = {"type": "object", "properties": {"urgent": {"type": "boolean"}}}
    (folder / "schema.json").write_text(json.dumps(schema))
    assert main(["new", "mine", "--like", "extract", "--schema", "schema.json", "--limit", "5"]) == 0
    made, model = find_preset("mine").parameters, find_preset("extract").parameters
    ours = {"name": "mine", "output": "output/mine.jsonl", "output_schema": schema, "limit": 5}
    assert made == {**model, **ours}
    assert "prompt: |-\n" in (folder / "batch-llm.yaml").read_text(), "a text of several lines stays readable"


def test_presets_lists_both_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(NEW)
    main(["presets"])
    said = capsys.readouterr().out
    assert "summarize-nightly" in said
    assert f"{presets_file()} and {folder / 'batch-llm.yaml'}" in said


def test_comments_and_blocks_of_the_file_are_kept(folder: Path) -> None:
    """In the file of the package, with anchors and comments, lines are added and none is changed or removed."""
    file = folder / "prefect.yaml"
    shutil.copy(presets_file(), file)
    before = file.read_text().splitlines()
    add_block(file, {"name": "more", "entrypoint": "flows/batch.py:batch", "parameters": {"prompt": "a\nb"}})
    changes = [line for line in difflib.ndiff(before, file.read_text().splitlines()) if line[0] in "-+"]
    assert [line for line in changes if line[0] == "-"] == []
    assert list(read_file(file)) == [*read_file(presets_file()), "more"]


def test_prefect_can_deploy_the_users_file(folder: Path) -> None:
    main(NEW)
    content = yaml.safe_load((folder / "batch-llm.yaml").read_text())
    assert content["pull"] == yaml.safe_load(presets_file().read_text())["pull"]
    (block,) = content["deployments"]
    assert (block["entrypoint"], block["work_pool"]) == ("flows/batch.py:batch", {"name": "batch-llm"})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["new", "summarize", "--like", "extract"], "preset 'summarize' already exists in "),
        (["new", "Tickets!", "--like", "extract"], "lower-case letters"),
        (["new", "tickets", "--prompt", "{text}"], "source is missing"),
        (["new", "tickets", "--like", "nothing"], "no preset is named 'nothing'"),
        (["new", "tickets", "--like", "extract", "--schema", "none.json"], "--schema: cannot read "),
        (["new", "tickets", "--like", "extract", "--schema", "{"], "--schema is not a valid JSON Schema"),
        (["new", "tickets", "--like", "extract", "--schema", "[]"], "--schema: cannot read "),
        (["show", "summarize", "--source", "docs.csv"], "uses column 'text', which is not in the source"),
        (["show", "summarize", "--source", "none.csv"], "none.csv does not exist"),
    ],
)
def test_bad_input_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not (folder / "batch-llm.yaml").exists()
