"""Measure the fixed costs of `batch-llm run`, phase by phase, and of commands that make no run.

    python -m tests.benchmarks.startup

takes five minutes; `--rows 5 --rounds 1 --no-bounds` half a minute. `--against CHECKOUT` measures another checkout,
with its own `.venv`, in turn with this one, and `--ondine PYTHON` the library ondine in an environment of its own, for
its requirements contradict ours: `uv venv ondine && uv pip install --python ondine/bin/python ondine==2.1.1`.

The Prefect server runs already. CPU is that of the command and all its processes. Other work on the machine makes times
longer, so the shortest of the rounds counts.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from pathlib import Path

from rich.console import Console

from .prefect_process import prefect_server
from .report import Bound, judge, show
from .serving import Served, listening

LATENCY_SECONDS, WORKERS = {5: 0.1}, {5: 5}
"""Per call and number of rows; otherwise 50 ms and 100 workers."""

MOST_SECONDS = {5: 5.0, 3_000: 22.0}
"""For each number of rows, on two cores with no other work."""

COMMANDS = {"--help": 0.3, "status": 0.6, "show summarize": 1.0}
PATIENCE_SECONDS = 300.0

_ONDINE = """
import os, sys
from ondine import PipelineBuilder
source, output, workers = sys.argv[1:]
pipeline = (
    PipelineBuilder.create()
    .from_csv(source, input_columns=["text"], output_columns=["answer"])
    .with_prompt("Summarize: {text}")
    .with_llm(provider="openai", model="gpt-4.1-mini", api_key="none", base_url=os.environ["OPENAI_BASE_URL"])
    .with_concurrency(int(workers))
    .to_csv(output)
    .build()
)
assert pipeline.execute().metrics.failed_rows == 0
"""


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds from the start of a command to each phase of its run, and its CPU seconds.

    Attributes:
        flow: The flow begins; None where there is no flow.
        first_call: The provider receives the first request.
        last_answer: The provider sends the last answer.
        output: The output is written.
        exit: The command exits.
        cpu_seconds: CPU of all processes of the command.
    """

    flow: float | None
    first_call: float
    last_answer: float
    output: float
    exit: float
    cpu_seconds: float

    def phases(self) -> tuple[float | None, ...]:
        """Return the figures in the order of the table."""
        return self.flow, self.first_call, self.last_answer, self.output, self.exit, self.cpu_seconds


@dataclass(frozen=True, slots=True)
class Contender:
    """A program to measure: `python` runs batch-llm, or ondine if `is_ondine` is set."""

    name: str
    python: str
    is_ondine: bool = False

    def command(self, folder: Path, rows: int) -> list[str]:
        """Return the command that answers all rows of a folder."""
        workers = WORKERS.get(rows, 100)
        if self.is_ondine:
            return [self.python, "-c", _ONDINE, str(folder / "docs.csv"), str(folder / "out.jsonl"), str(workers)]
        settings = ("--model", "openai-chat:gpt-4.1-mini", "--prompt", "Summarize: {text}", "-p", "output_schema=null")
        places = ("--source", "docs.csv", "--output", "out.jsonl", "--max-workers", str(workers))
        return [self.python, "-m", "batch_llm", "run", "summarize", *places, *settings]


def measure(contender: Contender, rows: int, env: dict[str, str], provider: Served) -> Run:
    """Run a command in a new folder.

    Raises:
        RuntimeError: It failed, or did not call each row once.
    """
    with tempfile.TemporaryDirectory(prefix="batch-llm-startup-") as name:
        folder = Path(name)
        with (folder / "docs.csv").open("w") as file:
            csv.writer(file).writerows([("id", "text"), *((n, f"document {n} " * 10) for n in range(rows))])
        provider.stats()
        began, cpu_seconds = time.time(), _run(contender.command(folder, rows), folder, env)
        ended, seen = time.time(), provider.stats()
        if seen["requests"] != rows:
            raise RuntimeError(f"{contender.name} made {seen['requests']} calls for {rows} rows")
        flow = next((_first_time(log) - began for log in folder.glob(".batch-llm/*/*/flow.log")), None)
        written = (folder / "out.jsonl").stat().st_mtime
        first, last = seen["first"] - began, seen["last"] - began
        return Run(flow, first, last, written - began, ended - began, cpu_seconds)


def _run(command: Sequence[str], folder: Path, env: dict[str, str]) -> float:
    """Run a command to its end; return the CPU seconds of it and its processes."""
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[:5])} failed:\n{(folder / 'output').read_text()}")
    return usage.ru_utime + usage.ru_stime


def _first_time(log: Path) -> float:
    """Return the time of the first line of Prefect's log, which has only the time of day."""
    written = datetime.strptime(log.read_text()[:12], "%H:%M:%S.%f").time()
    return datetime.combine(datetime.now().date(), written).timestamp()


def best(runs: Sequence[Run]) -> list[str]:
    """Return the shortest time of each phase as text."""
    phases = zip(*(run.phases() for run in runs), strict=True)
    known = ([figure for figure in figures if figure is not None] for figures in phases)
    return [f"{min(figures):.2f}" if figures else "" for figures in known]


def bounds(runs: dict[tuple[str, int], list[Run]]) -> Iterator[Bound]:
    """Yield the bounds for this checkout, and for ondine, which it must not be slower than."""
    for rows, most in MOST_SECONDS.items():
        if ours := runs.get(("this checkout", rows)):
            seconds = min(run.exit for run in ours)
            yield Bound(f"{rows:,} rows: under {most:g} s", f"{seconds:.1f} s", seconds < most)
            if theirs := runs.get(("ondine", rows)):
                other = min(run.exit for run in theirs)
                yield Bound(f"{rows:,} rows: not slower than ondine", f"{seconds / other:.2f}x", seconds <= other)


def command_seconds(contender: Contender, arguments: str, env: dict[str, str], folder: Path) -> tuple[float, float]:
    """Return the seconds and CPU seconds of a command that makes no run."""
    began = time.perf_counter()
    cpu_seconds = _run([contender.python, "-m", "batch_llm", *arguments.split()], folder, env)
    return time.perf_counter() - began, cpu_seconds


def _commands(contenders: Sequence[Contender], env: dict[str, str], rounds: int) -> list[Bound]:
    with tempfile.TemporaryDirectory(prefix="batch-llm-commands-") as name:
        folder = Path(name)
        _prepare_ledger(folder, env, contenders[0])
        rows: list[list[str]] = []
        held: list[Bound] = []
        for arguments, most in COMMANDS.items():
            for contender in contenders:
                found = [command_seconds(contender, arguments, env, folder) for _ in range(rounds)]
                seconds, cpu_seconds = (min(each) for each in zip(*found, strict=True))
                rows.append([f"{arguments}, {contender.name}", f"{seconds:.2f}", f"{cpu_seconds:.2f}"])
                if contender.name == "this checkout":
                    held.append(Bound(f"{arguments}: under {most:g} s", f"{seconds:.2f} s", seconds < most))
    show("Commands without a run", ["command", "seconds", "CPU"], [rows])
    return held


def _prepare_ledger(folder: Path, env: dict[str, str], contender: Contender) -> None:
    """Make a run, for `status`."""
    (folder / "docs.csv").write_text("id,text\na,one\n")
    _run(contender.command(folder, 1), folder, env)


def main() -> int:
    """Measure all contenders in turn, print the tables and the bounds, return the exit code."""
    parser = argparse.ArgumentParser(description="Measure the fixed costs of batch-llm run, phase by phase.")
    parser.add_argument("--rows", type=int, nargs="*", default=[5, 3_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path, help="another checkout, with its own .venv")
    parser.add_argument("--ondine", help="the Python of an environment with ondine")
    parser.add_argument("--no-bounds", action="store_true", help="judge nothing")
    options = parser.parse_args()
    contenders = [Contender("this checkout", sys.executable)]
    if options.against:
        contenders.append(Contender("other checkout", str(options.against.absolute() / ".venv/bin/python")))
    others = [Contender("ondine", options.ondine, is_ondine=True)] if options.ondine else []
    sizes: list[int] = options.rows
    turns = list(product(sizes, [*contenders, *others]))
    runs: dict[tuple[str, int], list[Run]] = {}
    with tempfile.TemporaryDirectory() as name, prefect_server(Path(name) / "prefect") as prefect, ExitStack() as stack:
        home = {"HOME": name, "OPENAI_API_KEY": "none", "PYTHONPATH": ""}
        providers = {
            rows: stack.enter_context(
                listening("tests.benchmarks.canned", "--latency", LATENCY_SECONDS.get(rows, 0.05))
            )
            for rows in {*sizes, 1}
        }
        with Console(stderr=True).status("") as status:
            for number, (rows, contender) in product(range(options.rounds), turns):
                status.update(f"round {number + 1}: {contender.name}, {rows:,} rows")
                env = {**prefect.env, **home, "OPENAI_BASE_URL": providers[rows].url}
                found = measure(contender, rows, env, providers[rows])
                runs.setdefault((contender.name, rows), []).append(found)
        sections = [[[f"{name}, {rows:,} rows", *best(found)] for (name, rows), found in runs.items()]]
        columns = ["seconds until", "flow begins", "first call", "last answer", "output", "exit", "CPU"]
        show("Runs with a running Prefect server", columns, sections, f"The shortest of {options.rounds} rounds.")
        env = {**prefect.env, **home, "OPENAI_BASE_URL": providers[1].url}
        held = [*bounds(runs), *_commands(contenders, env, options.rounds)]
    return 0 if options.no_bounds else judge(held)


if __name__ == "__main__":
    raise SystemExit(main())
