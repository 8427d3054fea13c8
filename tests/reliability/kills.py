"""Kill a batch at random moments until it is done, and count the repeated calls at the provider.

    python -m tests.reliability.kills

kills 50 times over 2,000 items, in some minutes. `--through prefect` kills the flow's process of `batch-llm run`, which
takes ten minutes; `--signal TERM` asks the process to end instead. Most moments are during calls, some in the start,
the plan and the merge. The seed is printed; `--seed` sets it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from batch_llm.jobs import BatchJob, job_store
from batch_llm.jobs.ledger.records import record_files
from batch_llm.jobs.storage.json_files import objects_in
from tests.benchmarks.report import Bound, judge
from tests.support.servers import Call, OpenAIServer, Reply

T = TypeVar("T")
CHECKOUT = Path(__file__).parents[2]
LATENCY_SECONDS = 0.1
START_SHARE = 0.2
"""Share of kills at any moment after the process's start; the others wait for a call."""

START_SECONDS = {"jobs": 2.0, "prefect": 12.0}
PATIENCE_SECONDS = 120.0
COMMAND = [sys.executable, "-c", "import sys; from batch_llm.cli import main; sys.exit(main())"]


@dataclass(frozen=True, slots=True)
class Trial:
    """Settings of a trial."""

    items: int
    kills: int
    workers: int
    seed: int
    through: str = "jobs"
    signal: signal.Signals = signal.SIGKILL

    @property
    def seconds_between(self) -> float:
        """At most between a run's first call and its kill, so that the kills are spread over the whole batch."""
        return 2.0 * self.items / self.kills * 1.5 * LATENCY_SECONDS / self.workers


@dataclass(frozen=True, slots=True)
class Verdict:
    """Results of a trial.

    Attributes:
        right: Items with their own answer in the output.
        rows: Rows of the output.
        twice: Calls beyond one an item.
        lost: At each kill, the calls that had been begun and have no record.
    """

    right: int
    rows: int
    twice: int
    lost: list[int]

    def bounds(self, trial: Trial) -> list[Bound]:
        """Return the bounds of a trial."""
        most = max(self.lost, default=0)
        return [
            Bound("each item has its own answer", f"{self.right:,} of {trial.items:,}", self.right == trial.items),
            Bound("no row is lost or doubled", f"{self.rows:,} rows", self.rows == trial.items),
            Bound(f"at a kill, at most {trial.workers} calls are in flight", f"{most}", most <= trial.workers),
            Bound("calls made twice: those in flight at a kill", f"{self.twice}", self.twice <= sum(self.lost)),
        ]


class Batch:
    """A batch in a folder, its provider, and the loop that kills it."""

    def __init__(self, folder: Path, trial: Trial, provider: OpenAIServer) -> None:
        self.trial, self.provider = trial, provider
        self._folder = folder
        self._random = random.Random(trial.seed)
        self._job = {
            "name": "kills",
            "source": str(folder / "docs.jsonl"),
            "output": str(folder / "out.jsonl"),
            "ledger": str(folder / "ledger"),
            "prompt": "{text}",
            "model": "openai-chat:gpt-6-luna",
            "shard_size": max(1, trial.items // 8),
            "config": {"max_workers": trial.workers},
        }
        lines = (json.dumps({"id": f"d{number}", "text": f"document {number}"}) for number in range(trial.items))
        (folder / "docs.jsonl").write_text("".join(f"{line}\n" for line in lines))
        (folder / "job.json").write_text(json.dumps(self._job))
        provider.latency = LATENCY_SECONDS
        provider.rule = self._slower

    def run(self, say: Callable[[str], None]) -> Verdict:
        """Kill the batch as often as the trial says, let it end, and return the results."""
        lost: list[int] = []
        for number in range(1, self.trial.kills + 1):
            moment = self._kill_one()
            lost.append(self._calls_without_a_record() - sum(lost))
            say(f"kill {number}: {moment}; {lost[-1]} calls in flight; {self._records():,} answers are recorded")
        with self._process() as process:
            if process.wait(PATIENCE_SECONDS + self.trial.items * LATENCY_SECONDS / self.trial.workers * 3):
                raise RuntimeError(f"the last run failed: {(self._folder / 'log').read_text()[-2000:]}")
        rows = [json.loads(line) for line in (self._folder / "out.jsonl").read_text().splitlines()]
        right = sum(row["status"] == "succeeded" and row["answer"] == row["text"] for row in rows)
        return Verdict(right, len(rows), self.provider.requests - self.trial.items, lost)

    def _kill_one(self) -> str:
        """Start the batch, and kill it; a batch that has ended is started again, as in a second run."""
        while True:
            with self._process() as process:
                if moment := self._kill(process):
                    return moment

    def _kill(self, process: subprocess.Popen[bytes]) -> str:
        """Wait for a random moment, kill the process, and return the moment, or None if the process has ended."""
        started, before = time.monotonic(), self.provider.requests
        moment = started + self._random.uniform(0, START_SECONDS[self.trial.through])
        if self._random.random() >= START_SHARE:
            _until(lambda: self.provider.requests > before or process.poll() is not None)
            moment = time.monotonic() + self._random.uniform(0, self.trial.seconds_between)
        _until(lambda: time.monotonic() >= moment or process.poll() is not None)
        if process.poll() is not None:
            return ""
        self._send(process)
        process.wait(PATIENCE_SECONDS)
        _until(lambda: self.provider.in_flight == 0)
        return f"{time.monotonic() - started:.2f} s after the start"

    def _send(self, process: subprocess.Popen[bytes]) -> None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        pids = [int(pid) for pid in children if self.trial.through == "prefect" and _is_flow(pid)]
        for pid in pids or [process.pid]:
            os.kill(pid, self.trial.signal)

    def _process(self) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                self._command(),
                cwd=self._folder,
                env=self.environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _command(self) -> list[str]:
        if self.trial.through == "jobs":
            return [sys.executable, "-m", "tests.reliability.single_run", str(self._folder / "job.json")]
        settings = {**self._job, "instructions": "", "output_schema": None}
        given = [part for name, value in settings.items() for part in ("-p", f"{name}={json.dumps(value)}")]
        return [*COMMAND, "run", "summarize", *given]

    def environment(self) -> dict[str, str]:
        """Return the variables of the batch's processes."""
        kept = {name: value for name, value in os.environ.items() if name not in ("BATCH_LLM_HOME", "PREFECT_API_URL")}
        return kept | {
            "PYTHONPATH": str(CHECKOUT),
            "PWD": str(self._folder),
            "PREFECT_HOME": str(self._folder / "prefect"),
            "OPENAI_BASE_URL": self.provider.base_url,
            "OPENAI_API_KEY": "test-key-that-is-no-secret",
        }

    def _slower(self, call: Call) -> Reply:
        return Reply(delay=self._random.uniform(0, LATENCY_SECONDS))

    def _calls_without_a_record(self) -> int:
        return self.provider.requests - self._records()

    def _records(self) -> int:
        store = job_store(BatchJob.parse(self._job))
        return sum(1 for name in record_files(store) for _ in objects_in((store.read(name) or b"").splitlines()))


def _is_flow(pid: str) -> bool:
    return b"prefect.flow_engine" in Path(f"/proc/{pid}/cmdline").read_bytes()


def _until(probe: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not probe():
        if time.monotonic() > end:
            raise TimeoutError("nothing happens any more")
        time.sleep(0.002)


def attempt(trial: Trial, say: Callable[[str], None]) -> Verdict:
    """Run a trial in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="batch-llm-kills-") as name, OpenAIServer() as provider:
        batch = Batch(Path(name), trial, provider)
        try:
            return batch.run(say)
        finally:
            if trial.through == "prefect":
                subprocess.run([*COMMAND, "server", "stop"], env=batch.environment(), cwd=name, check=False)


def main() -> int:
    """Run a trial, print the results and the bounds, return the exit code."""
    parser = argparse.ArgumentParser(description="Kill a batch at random moments, and count the repeated calls.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument(
        "--through", choices=["jobs", "prefect"], default="jobs", help="run the batch without or with Prefect"
    )
    parser.add_argument("--signal", choices=["KILL", "TERM"], default="KILL")
    options = parser.parse_args()
    sent = signal.Signals[f"SIG{options.signal}"]
    trial = Trial(options.items, options.kills, options.workers, options.seed, options.through, sent)
    print(f"{trial.kills} kills by {sent.name} over {trial.items:,} items, {trial.workers} workers, seed {trial.seed}")
    return judge(attempt(trial, lambda line: print(line, flush=True)).bounds(trial))


if __name__ == "__main__":
    raise SystemExit(main())
