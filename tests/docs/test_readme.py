"""Everything that the README tells a user to type is typed here, line by line, in an empty folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from batch_llm.cli.app import app
from batch_llm.jobs import BatchJob, project_folder
from tests.support.prefect_server import eventually
from tests.support.servers import GeminiServer, OpenAIServer

pytestmark = pytest.mark.prefect

README = (project_folder() / "README.md").read_text()
STAYS = {"batch-llm serve": "export PREFECT_API_URL=", "prefect worker start": "started!"}
"""Commands that run until somebody ends them, and what each says when it is ready."""

# The machine has uv and this environment already, and the suite that runs this line is itself the one it starts.
SHIMS = {
    "pip": "exit 0",
    "uv": 'shift; case "$1" in pytest) exec pytest --version;; --group) shift 2;; esac; exec "$@"',
}

ELSEWHERE = ("-m tests.benchmarks.", "-m tests.reliability.")
"""What is run by the tests beside it, short: at its full size it takes minutes."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    typed = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
    return [line for line in typed if not any(program in line for program in ELSEWHERE)]


class Sandbox:
    """A user's folder and environment; what was started in the background ends with it."""

    def __init__(self, folder: Path, api: str, openai: OpenAIServer, gemini: GeminiServer) -> None:
        self.folder = folder
        self._api = api
        self._background: list[subprocess.Popen[bytes]] = []
        shims = folder / "bin"
        shims.mkdir()
        for name, script in SHIMS.items():
            (shims / name).write_text(f"#!/bin/sh\n{script}\n")
            (shims / name).chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if name != "BATCH_LLM_HOME"}
        self.env = kept | {
            "PATH": f"{shims}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PWD": str(folder),
            "PREFECT_API_URL": api,
            "OPENAI_BASE_URL": openai.base_url,
            "OPENAI_API_KEY": "test-key-that-is-no-secret",
            "GOOGLE_GEMINI_BASE_URL": gemini.url,
            "GOOGLE_API_KEY": "test-key-that-is-no-secret",
        }

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    def type(self, line: str) -> None:
        """Type a line of the README, with the address of this test's Prefect server."""
        line = line.replace("http://127.0.0.1:4200/api", self._api)
        ready = next((said for command, said in STAYS.items() if command in line), None)
        if ready is None:
            self.run("bash", "-c", line)
            return
        log = self.folder / f"background-{len(self._background)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {line.removeprefix('uv run ')}"],
                cwd=self.folder,
                env=self.env,
                stdout=output,
                stderr=output,
            )
        self._background.append(process)
        eventually(lambda: ready in log.read_text() and process.poll() is None, seconds=60)

    def close(self) -> None:
        for process in self._background:
            process.terminate()
        for process in self._background:
            process.wait(60)


@pytest.fixture(scope="module")
def sandbox(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("readme")
    docs = [{"id": f"d{number}", "text": f"document {number}"} for number in range(1, 6)]
    (folder / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    (folder / "docs.csv").write_text("id,text\n" + "".join(f"{doc['id']},{doc['text']}\n" for doc in docs))
    with OpenAIServer() as openai, GeminiServer() as gemini:
        opened = Sandbox(folder, prefect_api, openai, gemini)
        yield opened
        opened.close()


@pytest.mark.whole
def test_every_command_works_in_the_order_of_the_page(sandbox: Sandbox) -> None:
    typed = commands()
    assert len(typed) >= 8
    for line in typed:
        sandbox.type(line)
    assert (sandbox.folder / "output" / "summarize.jsonl").exists(), "the demo's"
    assert (sandbox.folder / "out.jsonl").exists()
    assert (sandbox.folder / "out.parquet").exists()


LONG = [pytest.mark.whole if "batch_llm.prefect" in block else () for block in blocks("python")]


@pytest.mark.parametrize("number", [pytest.param(number, marks=marks) for number, marks in enumerate(LONG)])
def test_every_example_runs(sandbox: Sandbox, number: int) -> None:
    script = sandbox.folder / f"example_{number}.py"
    script.write_text(blocks("python")[number])
    assert sandbox.run(sys.executable, str(script)) is not None


@pytest.mark.parametrize("line", [line for line in commands() if "batch-llm " in line and "prefect " not in line])
def test_every_command_is_one_that_there_is(line: str) -> None:
    """Its options, too; what it does is the test above."""
    words = shlex.split(line)
    app.parse_args(words[words.index("batch-llm") + 1 :], print_error=False, exit_on_error=False)


def test_the_command_that_runs_the_tests_is_what_ci_runs() -> None:
    (line,) = [line for line in commands() if "pytest" in line]
    for file in (".ci/run", ".github/workflows/ci.yml"):
        assert line in (project_folder() / file).read_text()


def test_no_block_of_commands_is_left_out() -> None:
    """`sh` is typed here, `bash` by tests of its chapter's own: in tests/prefect/test_settings.py, and on machines."""
    assert set(re.findall(r"^```(.*)$", README, flags=re.MULTILINE)[::2]) == {"sh", "bash", "python", "text"}
    elsewhere = [chapter for chapter in re.split(r"^## ", README, flags=re.MULTILINE) if "```bash" in chapter]
    assert [chapter.splitlines()[0] for chapter in elsewhere] == ["One number for all deployments", "Many machines"]


def test_the_settings_table_has_every_setting() -> None:
    table = README.split("| setting |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)) == set(BatchJob.model_fields)
