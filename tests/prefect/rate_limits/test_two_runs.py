"""Two runs of different jobs, in separate processes, share the limit of one account."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.fresh import CHECKOUT
from tests.benchmarks.limited import LimitedServer
from tests.support.command import batch_llm
from tests.support.flow_file import load_flow
from tests.support.prefect_server import eventually
from tests.support.processes import user_environment
from tests.support.servers import Call, Reply

pytestmark = pytest.mark.prefect

SCOPE = "account-of-two-runs"
MODELS = {"summarize": "openai-chat:gpt-4.1-mini", "classify": "openai-chat:gpt-4.1"}
A_SECOND, STATED = 40.0, 20.0
SET = ("limit", "set")
SHARED_SECONDS = 15.0
"""From the first calls of both: who was first gives half of it away, in a cycle or two."""

WINDOW_SECONDS = 2.0
HEARD_SECONDS = 2.0
PAUSE_SECONDS = 4.0
EARLY_SECONDS = 0.5
"""Tolerance in seconds for the end of a cooldown, which each process converts from the server's clock."""


class Account(LimitedServer):
    """Provider that accepts 40 calls per second and records time and job of each; it refuses one call on request."""

    def __init__(self) -> None:
        super().__init__(requests_per_second=A_SECOND, burst_seconds=1.0, latency=0.05)
        self.seen: list[tuple[float, str]] = []
        self.refuses = ""
        self.refused_at = 0.0
        self._admits, self.rule = self.rule, self._note

    def _note(self, call: Call) -> Reply | None:
        now, client = time.monotonic(), call.prompt.split()[0]
        self.seen.append((now, client))
        if client == self.refuses:
            self.refuses, self.refused_at = "", now
            return self.rate_limit(retry_after=PAUSE_SECONDS)
        return self._admits(call) if self._admits else None

    def whose(self, since: float, until: float) -> dict[str, int]:
        """Return the number of calls of each job in this time."""
        clients = Counter(client for at, client in self.seen if since <= at < until)
        return {name: clients[name] for name in MODELS}

    def latest(self) -> dict[str, int]:
        """Return the number of calls of each job in the latest seconds."""
        now = time.monotonic()
        return self.whose(now - WINDOW_SECONDS, now)


def a_job(name: str, folder: Path, documents: int) -> dict[str, Any]:
    """Return a job of this name in its own folder, with the shared account."""
    folder.mkdir()
    (folder / "docs.jsonl").write_text("".join(f'{{"text": "{name} {number}"}}\n' for number in range(documents)))
    job: dict[str, Any] = {"name": name, "model": MODELS[name], "limit_scope": SCOPE, "canary": 0}
    job |= {"limits": {"requests_per_minute": 60 * A_SECOND}, "config": {"max_workers": 40}}
    job |= {"source": str(folder / "docs.jsonl"), "prompt": "{text}", "output": str(folder / "out.jsonl")}
    return job | {"ledger": str(folder / "ledger")}


@contextmanager
def a_run(name: str, account: Account, prefect_api: str, folder: Path) -> Generator[None]:
    """Run a job of this name in a separate process and folder; each prompt begins with the name."""
    job = a_job(name, folder, 5000)
    env = user_environment(folder, prefect_api, OPENAI_BASE_URL=account.base_url, OPENAI_API_KEY="k")
    command = [sys.executable, "-m", "tests.benchmarks.flow_run", json.dumps(job)]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, cwd=CHECKOUT, env=env, stdout=log, stderr=log) as process,
    ):
        try:
            yield
        finally:
            assert process.poll() is None, (folder / "log").read_text()
            process.terminate()


def test_two_runs_at_once_share_a_limit(prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Together they start no more calls than the account allows, and each makes calls while the other does."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    names, documents = list(MODELS), 160
    with Account() as account, ThreadPoolExecutor() as pool:
        monkeypatch.setenv("OPENAI_BASE_URL", account.base_url)
        jobs = [a_job(name, tmp_path / name, documents) for name in names]
        runs = [pool.submit(copy_context().run, partial(load_flow(), **job, return_state=True)) for job in jobs]
        messages = [run.result().message for run in runs]
    assert [message.split(" answered")[0] for message in messages] == ["160 of 160"] * 2
    begun = {name: min(at for at, client in account.seen if client == name) for name in names}
    ended = {name: max(at for at, client in account.seen if client == name) for name in names}
    both = account.whose(max(begun.values()), min(ended.values()))
    assert min(both.values()) >= 10, both
    assert max(ended.values()) - min(begun.values()) >= 2 * documents / A_SECOND - 1.5
    assert len(account.stats()["refused_at"]) < 0.1 * len(account.seen)


@pytest.mark.whole
def test_runs_of_different_jobs_share_limits_and_cooldowns(prefect_api: str, tmp_path: Path) -> None:
    """Checked by the times of the calls at the provider."""
    names = list(MODELS)
    with Account() as account, ExitStack() as stack:
        for name in names:
            stack.enter_context(a_run(name, account, prefect_api, tmp_path / name))
        eventually(lambda: {name for _, name in account.seen} == set(names), seconds=90)
        half = WINDOW_SECONDS * A_SECOND / 2
        eventually(lambda: min(account.latest().values()) >= 0.8 * half, seconds=SHARED_SECONDS)
        shared_at = time.monotonic() - WINDOW_SECONDS
        assert sum(account.latest().values()) <= 1.1 * 2 * half

        number = f"{60 * STATED}"
        said = batch_llm(*SET, SCOPE, "--requests-per-minute", number, folder=tmp_path, PREFECT_API_URL=prefect_api)
        assert said.returncode == 0, said.stderr
        time.sleep(HEARD_SECONDS + WINDOW_SECONDS)
        assert sum(account.latest().values()) == pytest.approx(WINDOW_SECONDS * STATED, rel=0.2)

        account.refuses = names[0]
        eventually(lambda: account.refused_at, seconds=5)
        shared = account.whose(shared_at, account.refused_at)
        assert min(shared.values()) >= max(shared.values()) / 2
        reopens_at = account.refused_at + PAUSE_SECONDS
        eventually(lambda: min(account.whose(reopens_at, math.inf).values()), seconds=15)
        paused = account.whose(account.refused_at + HEARD_SECONDS, reopens_at - EARLY_SECONDS)
        assert paused == dict.fromkeys(names, 0)
        assert len(account.stats()["refused_at"]) < 0.03 * len(account.seen)
