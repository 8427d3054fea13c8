"""Every command and example of the documents is run, in an empty folder, in the order of the page."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batch_llm.jobs import project_folder
from tests.support.prefect_server import eventually
from tests.support.servers import GeminiServer, OpenAIServer

pytestmark = pytest.mark.prefect

DOCUMENTS = {
    name: (project_folder() / name).read_text()
    for name in ("README.md", "flows/README.md", "deployments/README.md", "batch_llm/README.md", "tests/README.md")
}

STAYS = {"batch-llm serve": "export PREFECT_API_URL=", "prefect worker start": "started!"}
"""Commands that run until they are ended, and what each prints when it is ready."""

# The machine has uv and this environment already, and the suite that runs this line is itself the one that it starts.
SHIMS = {
    "pip": "exit 0",
    "uv": 'shift; case "$1" in pytest) exec pytest --version;; --group) shift 2;; esac; exec "$@"',
}

ELSEWHERE = ("-m tests.benchmarks.", "-m tests.reliability.", ".ci/run", "tests/anywhere")
"""Commands that other tests run, with fewer items: at full size they take minutes."""

BASH_CHAPTERS = {"deployments/README.md": ["Common settings", "Many machines"]}
"""Chapters whose commands are run by tests of their own: tests/prefect/test_settings.py and tests/reliability."""


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENTS[document], flags=re.DOTALL | re.MULTILINE)


def commands(document: str) -> list[str]:
    typed = [line for block in blocks(document, "sh") for line in block.splitlines() if line.strip()]
    return [line for line in typed if not any(program in line for program in ELSEWHERE)]


def examples() -> list[Any]:
    """Return a parameter per example; those that import Prefect or pydantic-ai take long, except the first flow."""
    found = [(document, number) for document in DOCUMENTS for number in range(len(blocks(document, "python")))]
    texts = {example: blocks(example[0], "python")[example[1]] for example in found}
    flows = [example for example, text in texts.items() if "batch_llm.prefect" in text]
    long = {*flows[1:], *(example for example, text in texts.items() if "pydantic_ai" in text)}
    return [pytest.param(*example, marks=pytest.mark.whole if example in long else ()) for example in found]


class Sandbox:
    """Folder and environment of a user; `close` ends the background processes."""

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
        assert done.returncode == 0, f"{command[-1]}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert "Traceback" not in done.stderr
        return done.stdout

    def run_here(self, script: Path) -> None:
        """Run an example in this process, which has imported already what takes a new one seconds."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            for name, value in self.env.items():
                patch.setenv(name, value)
            runpy.run_path(str(script), run_name="__main__")

    def type(self, line: str) -> None:
        """Run a line of a document with the URL of this test's Prefect server."""
        line = line.replace("http://127.0.0.1:4200/api", self._api)
        ready = next((printed for command, printed in STAYS.items() if command in line), None)
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


@pytest.fixture
def sandbox(prefect_api: str, tmp_path: Path) -> Iterator[Sandbox]:
    docs = [{"id": f"d{number}", "text": f"document {number}"} for number in range(1, 6)]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    (tmp_path / "docs.csv").write_text("id,text\n" + "".join(f"{doc['id']},{doc['text']}\n" for doc in docs))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("a note")
    with OpenAIServer() as openai, GeminiServer() as gemini:
        opened = Sandbox(tmp_path, prefect_api, openai, gemini)
        try:
            yield opened
        finally:
            opened.close()


@pytest.mark.whole
@pytest.mark.parametrize("document", [name for name in DOCUMENTS if commands(name)])
def test_every_command_works_in_the_order_of_the_page(sandbox: Sandbox, document: str) -> None:
    for line in commands(document):
        sandbox.type(line)
    if document == "README.md":
        assert (sandbox.folder / "output" / "summarize.jsonl").exists(), "the demo's output"
        assert (sandbox.folder / "out.jsonl").exists()


@pytest.mark.parametrize(("document", "number"), examples())
def test_every_example_runs(sandbox: Sandbox, document: str, number: int) -> None:
    example = blocks(document, "python")[number]
    script = sandbox.folder / f"example_{number}.py"
    script.write_text(example)
    if "pydantic_ai" in example:  # its clients are open until the process ends
        sandbox.run(sys.executable, str(script))
    else:
        sandbox.run_here(script)
