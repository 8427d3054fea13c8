"""The benchmarks run at small sizes: every row is printed, and every item has its result."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from inspect import currentframe
from typing import Annotated

import pytest
from pydantic import BeforeValidator, TypeAdapter

from batch_llm import LLMCallStrategy, LLMWorkItem, ParallelBatchProcessor, ProcessorConfig

from .clients import CLIENTS, Cell
from .clients import bounds as clients_bounds
from .contenders import CONTENDERS
from .engine import bounds, sections
from .fresh import CHECKOUT, fresh
from .governor import TOLD
from .ledger import WITH
from .limits import sections as limits_sections
from .measure import Measurement, clocked
from .pacing import Pace
from .report import Bound, judge
from .sampling import Owner, owner
from .serving import served
from .startup import COMMANDS, Run
from .startup import bounds as startup_bounds
from .strategies import AGENTS, GEMINI
from .stream import STREAMS

SHORT = {
    "engine": "--items 300 --rounds 1 --workers 10",
    "stream": "--items 500",
    "strategies": "--calls 10",
    "agents": "--runs 10",
    "clients": "--calls 10 --rounds 1 --workers 10",
    "second_run": "--items 2000",
    "ledger": "--items 500 --rounds 1",
    "governor": "--calls 100 --rounds 1",
    "startup": "--rows 5 --rounds 1",
    "limits": "--items 20 --beside 20 --longest 30 --trace --only 25/s$|known:.tokens.*0.2|by.hand",
}
"""Options for a small size; the full size takes minutes."""

ELSEWHERE = {"million", "simulated", "observing", "overhead", "task_per_item", "cores"}
"""Benchmarks that tests/prefect runs: test_whole_runs.py, test_observing.py, test_flow_benchmarks.py."""


def printed(benchmark: str) -> str:
    """Run a benchmark at a small size, and return its output."""
    command = [sys.executable, "-m", f"tests.benchmarks.{benchmark}", "--no-bounds", *SHORT[benchmark].split()]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=240).stdout


def test_all_documented_benchmarks_are_run_here() -> None:
    readme = (CHECKOUT / "tests" / "README.md").read_text()
    assert (
        set(re.findall(r"python -m tests\.benchmarks\.(\w+)$", readme, flags=re.MULTILINE)) == SHORT.keys() | ELSEWHERE
    )


@pytest.mark.whole
def test_engine_benchmark_has_a_row_for_each_contender() -> None:
    table = printed("engine")
    for contender in CONTENDERS.keys() - {WITH}:
        assert contender in table
    for section in ("at once, 10 workers", "50 ms, 1,000 workers"):
        assert table.count(section) == 5
    assert "holds" not in table
    assert "missed" not in table


@pytest.mark.whole
def test_stream_benchmark_has_the_memory_at_every_tenth() -> None:
    table = printed("stream")
    for stream in STREAMS:
        row = next(line for line in table.splitlines() if line.startswith(f"│ {stream} "))
        assert row.count("│") == 14


@pytest.mark.whole
def test_strategies_benchmark_has_the_shares_of_the_cpu() -> None:
    table = printed("strategies")
    for strategy, calls in (*((name, "10") for name in AGENTS), *((name, "120") for name in GEMINI)):
        row = next(line for line in table.splitlines() if line.startswith(f"│ {strategy} "))
        assert row.split("│")[2].strip() == calls


@pytest.mark.whole
def test_startup_benchmark_has_the_phases_of_a_run_in_their_order() -> None:
    table = printed("startup")
    (row,) = [line for line in table.splitlines() if line.startswith("│ this checkout, 5 rows ")]
    *phases, cpu_seconds = map(float, row.replace("│", " ").split()[4:])
    assert len(phases) == 5
    assert phases == sorted(phases)
    assert cpu_seconds > 0
    assert all(f"│ {command}, this checkout " in table for command in COMMANDS)


def test_bounds_of_the_startup_use_the_shortest_run() -> None:
    def run(seconds: float) -> Run:
        return Run(1.0, 2.0, 3.0, 4.0, seconds, 1.0)

    runs = {
        ("this checkout", 5): [run(9.0), run(4.5)],
        ("this checkout", 3_000): [run(23.0)],
        ("ondine", 3_000): [run(20.0), run(46.0)],
    }
    judged = [(bound.figure, bound.holds) for bound in startup_bounds(runs)]
    assert judged == [("4.5 s", True), ("23.0 s", False), ("1.15x", False)]


@pytest.mark.whole
def test_governor_benchmark_has_a_row_for_each_kind_of_limit() -> None:
    table = printed("governor")
    for told in TOLD:
        assert f"│ {told} " in table


@pytest.mark.whole
def test_agents_benchmark_answers_every_agent() -> None:
    assert "10 of 10" in printed("agents")


@pytest.mark.whole
def test_clients_benchmark_answers_every_call() -> None:
    table = printed("clients")
    for client in CLIENTS:
        rows = [line for line in table.splitlines() if line.startswith(f"│ {client}, ")]
        assert ["10 of 10" in row and "yes" in row for row in rows] == [True]


def test_bounds_of_model_strategy_compare_it_with_an_agent() -> None:
    """By the CPU per call with few workers, by the speed with many; an agent that fails completely is slower."""
    lean, slow = Cell(100, 100, counted=True, seconds=1.0, cpu_seconds=1.0), Cell(100, 100, True, 2.9, 1.9)
    failed, lost = Cell(100, 0, True, 1.0, 1.0), Cell(100, 99, True, 1.0, 1.0)
    kinds = {"text": (lean, slow, slow), "BaseModel": (lost, failed, failed)}
    cells = {
        (f"{way}, {kind}", workers): each
        for kind, (lean_cell, few, many) in kinds.items()
        for way, workers, each in (
            ("ModelStrategy", 100, lean_cell),
            ("ModelStrategy", 1000, lean_cell),
            ("Agent.run", 100, few),
            ("Agent.run", 1000, many),
        )
    }
    judged = [(bound.figure, bound.holds) for bound in clients_bounds(cells)]
    assert judged[:3] == [("0.53", False), ("2.9x", False), ("100 of 100, 100 of 100", True)]
    assert judged[4:] == [("infx", True), ("99 of 100, 99 of 100", False)]


class Spy(LLMCallStrategy[Owner]):
    """Strategy that returns the owner of a sample taken in its code."""

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[Owner, dict[str, int]]:
        return owner(currentframe()), {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


async def test_a_sample_counts_for_the_innermost_package_on_the_stack() -> None:
    """Other code counts for its caller: here pydantic, and the engine."""
    found = TypeAdapter(Annotated[object, BeforeValidator(lambda _: owner(currentframe()))]).validate_python(None)
    processor = ParallelBatchProcessor[None, Owner, None](ProcessorConfig())
    await processor.add_work(LLMWorkItem("a", Spy()))
    (result,) = (await processor.process_all()).results
    assert (found, result.output, owner(None)) == (Owner.SDK, Owner.OURS, Owner.LOOP)


async def test_run_that_loses_an_item_is_an_error() -> None:
    async def run() -> int:
        return 4

    with pytest.raises(RuntimeError, match="4 of 5 items succeeded"):
        await clocked(run, 5)


def test_failed_measurement_process_is_reported_with_its_error() -> None:
    with pytest.raises(RuntimeError, match="max_workers is 0"):
        fresh("tests.benchmarks.measure", "process_all", "--items", 5, "--workers", 0)


def test_missed_bound_causes_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    held, missed = Bound("cheap", "2x", holds=True), Bound("quick", "9 s", holds=False)
    assert judge([held]) == 0
    assert judge([held, missed]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "missed  quick: 9 s"


def test_bounds_of_the_engine_use_ratios_within_each_round() -> None:
    """Twice the CPU of the limit in every round is 2x, however loaded the machine was in one of them."""
    (at_once, waiting) = sections(100, [10])
    for load in (1.0, 1.0, 50.0):
        for section, cost in ((at_once, 2.0), (waiting, 1.0)):
            costs = {section.limit: 1.0, "process_all": cost, "process_stream": cost, "process_all, hooks": 3.0 * cost}
            section.rounds.append({name: Measurement(100, each * load, each * load, 0) for name, each in costs.items()})
    assert [(bound.figure, bound.holds) for bound in bounds([at_once, waiting])] == [
        ("2.00x", True),
        ("2.00x", True),
        ("3.00x", False),
        ("100.0%", True),
        ("100.0%", True),
    ]


def test_server_in_a_separate_process_counts_its_requests() -> None:
    with served("openai") as server:
        body = b'{"model": "any", "messages": [{"role": "user", "content": "two words"}]}'
        with urllib.request.urlopen(f"{server.url}/chat/completions", body, timeout=10) as answer:
            assert b"two words" in answer.read()
        assert server.stats()["requests"] == 1
        assert server.stats()["input_tokens"] == 2


@pytest.mark.whole
def test_second_run_calls_only_changed_items() -> None:
    lines = printed("second_run").splitlines()
    called = {row.split("│")[1].strip(): row.split("│")[2].strip() for row in lines if row.startswith("│")}
    assert called == {"first": "2,000", "second": "2"}


@pytest.mark.whole
def test_ledger_benchmark_has_a_row_without_a_ledger() -> None:
    rows = [line for line in printed("ledger").splitlines() if line.startswith("│")]
    assert [row.split("│")[1].strip() for row in rows] == ["process_stream", "process_stream, ledger"]


@pytest.mark.whole
def test_limits_benchmark_has_a_row_and_a_trace_for_each_run() -> None:
    """Each has a row with all answers, and a trace with every second."""
    table, *traces = printed("limits").split("accepted(-refused)")
    names = ("unknown: 50/s, then 25/s", "known: tokens, burst of 0.2 s", "compared: semaphore of 10, found by hand")
    for name in names:
        row = next(line for line in table.splitlines() if line.startswith(f"│ {name} "))
        assert row.split("│")[2].strip() == "20 of 20"
    assert len(traces) == len(names)


def test_bounds_of_a_limit_are_its_use_and_the_refused_share() -> None:
    """A run that lost an item fails a bound; other contenders have no bounds."""
    unknown, known, compared = limits_sections(100, 100)
    unknown.paces["a"] = Pace(100, 99, 3.0, accepted=97, refused=3, used=0.9, trace=[])
    known.paces["a"] = Pace(100, 100, 3.0, accepted=997, refused=3, used=0.94, trace=[])
    compared.paces["a"] = Pace(100, 1, 3.0, accepted=1, refused=99, used=0.1, trace=[])
    judged = [(bound.figure, bound.holds) for section in (unknown, known, compared) for bound in section.bounds()]
    assert judged == [
        ("90.0%", True),
        ("3.00%", False),
        ("99 of 100", False),
        ("94.0%", False),
        ("0.30%", True),
        ("100 of 100", True),
    ]
