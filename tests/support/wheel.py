"""Drives an installed wheel from an unrelated folder: `.ci/wheel` runs it as `python wheel.py VENV/bin`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

BIN = Path(sys.argv[1])


def run(*command: str, expect: int = 0) -> str:
    """Run a command of the wheel's environment and return what it says."""
    print("$", *command, flush=True)
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]], capture_output=True, text=True, timeout=300, check=False
    )
    print(done.stdout + done.stderr, flush=True)
    if done.returncode != expect or "Traceback" in done.stderr:
        raise SystemExit(f"exit code {done.returncode} where {expect} was expected")
    return done.stdout + done.stderr


@contextmanager
def worker(pool: str) -> Generator[None]:
    """A worker of the pool, in a folder that has nothing to do with the project."""
    with Path("worker.log").open("w") as log:
        process = subprocess.Popen([str(BIN / "prefect"), "worker", "start", "--pool", pool], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def check_contents() -> None:
    """The wheel carries flows, presets and samples inside the package, and nothing beside it."""
    files = [str(file) for file in distribution("batch-llm").files or ()]
    top = {file.split("/")[0] for file in files if not file.startswith("..")}
    assert {name for name in top if not name.endswith(".dist-info")} == {"batch_llm"}, top
    for carried in ("flows/batch.py", "deployments/prefect.yaml", "deployments/samples/crane-incident-report.md"):
        assert f"batch_llm/_project/{carried}" in files, carried


def check_command() -> None:
    """Help, presets and bad input, without a server."""
    assert "demo" in run("batch-llm", "--help")
    assert "summarize" in run("batch-llm", "presets")
    assert "does not exist" in run("batch-llm", "run", "summarize", "--source", "none.csv", expect=2)
    assert "xllamacpp" in run("batch-llm", "demo", expect=2), "the local model is no part of the wheel"
    Path("docs.csv").write_text("id,text\na,one document\nb,another document\n")
    guess = run("batch-llm", "estimate", "summarize", "--source", "docs.csv", "--model", "openai-chat:gpt-4.1-mini")
    assert "2 to 8 characters per token" in guess, "the tokenizers are an extra"
    assert "batch-llm[tokenizers]" in guess
    code = "import batch_llm, sys; print(len(batch_llm.__all__), 'prefect' in sys.modules)"
    assert run("python", "-c", code).split()[1] == "False"


def check_worker() -> None:
    """A deployment out of the wheel, carried by a worker."""
    Path("docs.csv").write_text("id,text\na,one document\nb,another document\n")
    said = run("batch-llm", "server", "start")
    found = re.search(r"http://127\.0\.0\.1:\d+/api", said)
    assert found, said
    os.environ["PREFECT_API_URL"] = found[0]
    try:
        run("batch-llm", "deploy", "summarize", "--pool", "wheel")
        with worker("wheel"):
            settings = ("source=docs.csv", "output=out.jsonl", "model=openai-chat:gpt-4.1-mini")
            flags = [flag for setting in settings for flag in ("-p", setting)]
            run("prefect", "deployment", "run", "batch-llm/summarize", *flags, "--watch", "--watch-timeout", "200")
        assert len(Path("out.jsonl").read_text().splitlines()) == 2
    except BaseException:
        print(Path("worker.log").read_text(), flush=True)
        raise
    finally:
        del os.environ["PREFECT_API_URL"]
        run("batch-llm", "server", "stop")


# What a shell has put in the background ignores Ctrl-C, and so would the worker.
signal.signal(signal.SIGINT, signal.default_int_handler)
check_contents()
check_command()
check_worker()
