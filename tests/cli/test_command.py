"""Help, and one line for bad input; neither needs a server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import batch_llm, batch_llm_here


@pytest.mark.sample(2)
@pytest.mark.shell
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["demo", "run", "serve", "deploy", "server", "presets"]),
        (["run", "--help"], ["PRESET", "--source", "--json", "--param", "batch-llm run summarize"]),
        (["server", "--help"], ["start", "stop", "status"]),
        (["presets"], ["summarize-nightly", "Europe/Berlin", "local"]),
        (["--version"], ["3."]),
    ],
)
def test_help_is_printed_on_standard_output(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    done = batch_llm_here(*arguments, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(word in done.stdout for word in words), done.stdout


def test_help_imports_neither_prefect_nor_duckdb(tmp_path: Path) -> None:
    code = "import sys; from batch_llm.cli import main; main(['--help']); print({'prefect', 'duckdb'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.sample(5)
@pytest.mark.shell
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], ["PRESET"]),
        (["runn"], ["runn", "run"]),
        (["run", "nothing"], ["'nothing'", "summarize, summarize-nightly, classify, extract"]),
        (["run", "summarize", "--source", "none.csv"], ["none.csv", "does not exist"]),
        (["run", "summarize", "--limit", "few"], ["few"]),
        (["run", "summarize", "--sauce", "a.csv"], ["--sauce"]),
        (["run", "summarize", "-p", "limit"], ["-p: expected name=value, got 'limit'"]),
        (["run", "summarize", "-p", "shard_size=0"], ["shard_size", "1 or more"]),
        (["run", "summarize", "-p", "shardsize=5"], ["shardsize", "shard_size"]),
        (["run", "summarize", "--model", "nobody:gpt"], ["nobody:gpt"]),
        (["run", "summarize", "--output", "out.xlsx"], ["out.xlsx", ".parquet"]),
        (["run", "summarize", "--prompt", "{body}"], ["body"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    done = batch_llm_here(*arguments, folder=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("batch-llm: ")
    assert all(word in line for word in words), line


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "summarize", "--source", "none.csv"],
        ["run", "nothing"],
        ["estimate", "summarize", "--sauce", "a.csv"],
        ["run", "summarize", "-p", "limit"],
    ],
)
def test_bad_input_is_an_object_with_error_for_a_program(tmp_path: Path, arguments: list[str]) -> None:
    done = batch_llm_here(*arguments, "--json", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"batch-llm: {json.loads(done.stdout)['error']}"


def test_presets_are_a_list_of_objects_for_a_program(tmp_path: Path) -> None:
    done = batch_llm_here("presets", "--json", folder=tmp_path)
    found = {preset["name"]: preset for preset in json.loads(done.stdout)}
    assert list(found) == ["summarize", "summarize-nightly", "classify", "extract"]
    assert found["summarize-nightly"]["schedule"] == "0 2 * * * Europe/Berlin (off)"
    assert found["classify"]["parameters"]["source"] == "samples"


@pytest.mark.shell
def test_the_process_prints_that_line_and_exits_with_that_code(tmp_path: Path) -> None:
    done = batch_llm("run", "summarize", "--source", "none.csv", folder=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("batch-llm: ")
    assert "none.csv" in line


@pytest.mark.whole
def test_a_server_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    done = batch_llm("run", "summarize", folder=tmp_path, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "http://127.0.0.1:9/api" in line
    assert "PREFECT_API_URL" in line


@pytest.mark.whole
def test_characters_that_the_terminal_cannot_encode_are_escaped(tmp_path: Path) -> None:
    """Examples are a pipe on Windows and an unpaired surrogate; neither causes a traceback."""
    (tmp_path / "docs.jsonl").write_text('{"id": 1, "text": "\\u65e5\\ud83d"}')
    for encoding, shown in (("ascii", "\\u65e5"), ("utf-8", "\u65e5")):
        done = batch_llm("show", "summarize", "--source", "docs.jsonl", folder=tmp_path, PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stderr) == (0, "")
        assert shown in done.stdout
