"""Two runs of different presets, in processes of their own, under one account's limit; the provider counts."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urljoin

import pytest

from tests.benchmarks.limited import LimitedServer
from tests.prefect_server import eventually

from .command import COMMAND, batch_llm, environment

pytestmark = pytest.mark.prefect

SCOPE = "one-account"
PRESETS = ("summarize", "classify")
A_SECOND = 20.0
SETTINGS = {
    "limit_scope": SCOPE,
    "limits": {"requests_per_minute": A_SECOND * 60},
    "config": {"max_workers": 20},
    "canary": 0,
}


@contextmanager
def running(preset: str, folder: Path, env: dict[str, str]) -> Generator[None]:
    """Let a run go on for the length of the block, and end it by Ctrl-C."""
    files = ["--source", "docs.jsonl", "--output", f"{preset}.jsonl", "--model", "openai-chat:gpt-6-luna"]
    settings = [part for name, value in SETTINGS.items() for part in ("-p", f"{name}={json.dumps(value)}")]
    command = [*COMMAND, "run", preset, *files, *settings]
    own = environment(folder, **env, OPENAI_API_KEY=preset)  # by which the provider tells them apart
    with (
        (folder / f"{preset}.log").open("w") as log,
        subprocess.Popen(command, cwd=folder, env=own, stdout=log, stderr=log) as process,
    ):
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    said = (folder / f"{preset}.log").read_text()
    assert process.returncode == 130, said
    assert "failed" not in said.splitlines()[-1]


def during(seconds: float, count: Callable[[], dict[str, int]]) -> dict[str, int]:
    """Return how many calls each made in a time."""
    before = count()
    time.sleep(seconds)
    return {name: calls - before.get(name, 0) for name, calls in count().items()}


def test_two_runs_share_a_limit_heed_a_new_one_and_pause_together(prefect_api: str, tmp_path: Path) -> None:
    """None is starved, what `limit set` says holds within seconds, and a refusal of one quiets both within two."""

    def refuse() -> None:
        body = json.dumps({"requests_per_second": 0.1}).encode()
        urllib.request.urlopen(urllib.request.Request(urljoin(provider.base_url, "/limit"), body), timeout=10).close()

    def calls() -> dict[str, int]:
        return {name: sum(kinds.values()) for name, kinds in provider.stats()["clients"].items()}

    def refused() -> int:
        return len(provider.stats()["refused_at"])

    rows = ({"id": number, "text": f"document {number}"} for number in range(4_000))
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with ExitStack() as stack:
        provider = stack.enter_context(LimitedServer(requests_per_second=A_SECOND, burst_seconds=1.0, latency=0.1))
        env = {"PREFECT_API_URL": prefect_api, "OPENAI_BASE_URL": provider.base_url}
        for preset in PRESETS:
            stack.enter_context(running(preset, tmp_path, env))
        eventually(lambda: len(calls()) == 2 and min(calls().values()) > 20, seconds=120)
        shared = during(6, calls)
        assert min(shared.values()) >= max(shared.values()) / 2, shared
        assert sum(shared.values()) >= 0.85 * A_SECOND * 6
        assert refused() < 0.03 * sum(calls().values())

        stated = batch_llm("limit", "set", SCOPE, "--requests-per-minute", "300", folder=tmp_path, **env)
        assert stated.returncode == 0, stated.stderr
        time.sleep(3)  # as long as it may take to be known
        slower = during(4, calls)
        assert 0.5 * 5 * 4 <= sum(slower.values()) <= 1.2 * 5 * 4 + 2, slower

        before = refused()
        refuse()
        eventually(lambda: refused() > before, seconds=10)
        time.sleep(2)
        assert not any(during(4, calls).values())
