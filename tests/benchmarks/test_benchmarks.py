"""The benchmarks run, at sizes that say nothing about speed: every row is there, and every item got its result."""

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
from .strategies import AGENTS, GEMINI
from .stream import STREAMS

SHORT = {
    "engine": "--items 300 --rounds 1 --workers 10",
    "stream": "--items 500",
    "strategies": "--calls 10",
    "agents": "--runs 10",
    "clients": "--calls 10 --rounds 1 --workers 10",
    "nights": "--items 2000",
    "ledger": "--items 500 --rounds 1",
    "governor": "--calls 100 --rounds 1",
    "limits": "--items 20 --beside 20 --longest 30 --trace --only 25/s$|told:.tokens.*0.2|by.hand",
}
"""How each is made short: at its full size it takes minutes."""

ELSEWHERE = {"million", "simulated", "observing", "overhead", "beside", "cores"}
"""What is run by tests/prefect: test_whole_runs.py, test_observing.py, test_flow_benchmarks.py."""


def printed(benchmark: str) -> str:
    """Run a benchmark as a user does, but short."""
    command = [sys.executable, "-m", f"tests.benchmarks.{benchmark}", "--no-bounds", *SHORT[benchmark].split()]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=240).stdout


def test_all_documented_benchmarks_are_run_here() -> None:
    readme = (CHECKOUT / "tests" / "README.md").read_text()
    assert (
        set(re.findall(r"python -m tests\.benchmarks\.(\w+)$", readme, flags=re.MULTILINE)) == SHORT.keys() | ELSEWHERE
    )


@pytest.mark.whole
def test_the_engine_stands_beside_bare_asyncio_and_another_engine() -> None:
    table = printed("engine")
    for contender in CONTENDERS.keys() - {WITH}:
        assert contender in table
    for section in ("at once, 10 workers", "50 ms, 1,000 workers"):
        assert table.count(section) == 5
    assert "holds" not in table
    assert "missed" not in table


@pytest.mark.whole
def test_a_stream_shows_its_memory_at_every_tenth() -> None:
    table = printed("stream")
    for stream in STREAMS:
        row = next(line for line in table.splitlines() if line.startswith(f"│ {stream} "))
        assert row.count("│") == 14


@pytest.mark.whole
def test_the_strategies_show_whose_cpu_it_is() -> None:
    table = printed("strategies")
    for strategy, calls in (*((name, "10") for name in AGENTS), *((name, "120") for name in GEMINI)):
        row = next(line for line in table.splitlines() if line.startswith(f"│ {strategy} "))
        assert row.split("│")[2].strip() == calls


@pytest.mark.whole
def test_the_governor_is_shown_with_each_kind_of_limit() -> None:
    table = printed("governor")
    for told in TOLD:
        assert f"│ {told} " in table


@pytest.mark.whole
def test_agents_at_once_all_have_their_answer() -> None:
    assert "10 of 10" in printed("agents")


@pytest.mark.whole
def test_the_clients_give_every_answer() -> None:
    table = printed("clients")
    for client in CLIENTS:
        rows = [line for line in table.splitlines() if line.startswith(f"│ {client}, ")]
        assert ["10 of 10" in row and "yes" in row for row in rows] == [True]


def test_the_lean_client_is_judged_against_an_agent() -> None:
    """By the CPU of a call at few workers, by the speed at many; an agent that fails altogether is beaten."""
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
    """Tells for whom a sample would count that is taken in the code that its caller runs."""

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[Owner, dict[str, int]]:
        return owner(currentframe()), {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


async def test_a_sample_counts_for_the_innermost_package_on_the_stack() -> None:
    """Other code works for whoever called it: here pydantic, and the engine."""
    found = TypeAdapter(Annotated[object, BeforeValidator(lambda _: owner(currentframe()))]).validate_python(None)
    processor = ParallelBatchProcessor[None, Owner, None](ProcessorConfig())
    await processor.add_work(LLMWorkItem("a", Spy()))
    (result,) = (await processor.process_all()).results
    assert (found, result.output, owner(None)) == (Owner.SDK, Owner.OURS, Owner.LOOP)


async def test_a_run_that_loses_an_item_is_no_measurement() -> None:
    async def run() -> int:
        return 4

    with pytest.raises(RuntimeError, match="4 of 5 items succeeded"):
        await clocked(run, 5)


def test_a_part_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="max_workers is 0"):
        fresh("tests.benchmarks.measure", "process_all", "--items", 5, "--workers", 0)


def test_a_missed_bound_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    held, missed = Bound("cheap", "2x", holds=True), Bound("quick", "9 s", holds=False)
    assert judge([held]) == 0
    assert judge([held, missed]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "missed  quick: 9 s"


def test_the_engine_is_judged_within_each_round() -> None:
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


def test_a_server_in_a_process_of_its_own_counts_what_it_saw() -> None:
    with served("openai") as server:
        body = b'{"model": "any", "messages": [{"role": "user", "content": "two words"}]}'
        with urllib.request.urlopen(f"{server.url}/chat/completions", body, timeout=10) as answer:
            assert b"two words" in answer.read()
        assert server.stats()["requests"] == 1
        assert server.stats()["input_tokens"] == 2


@pytest.mark.whole
def test_a_second_night_calls_what_changed_alone() -> None:
    lines = printed("nights").splitlines()
    called = {row.split("│")[1].strip(): row.split("│")[2].strip() for row in lines if row.startswith("│")}
    assert called == {"first": "2,000", "second": "2"}


@pytest.mark.whole
def test_the_ledger_stands_beside_no_ledger() -> None:
    rows = [line for line in printed("ledger").splitlines() if line.startswith("│")]
    assert [row.split("│")[1].strip() for row in rows] == ["process_stream", "process_stream, ledger"]


@pytest.mark.whole
def test_the_runs_under_a_limit_stand_side_by_side() -> None:
    """A row each, in which everything was answered; the trace holds every second of each run."""
    table, *traces = printed("limits").split("accepted(-refused)")
    names = ("unknown: 50/s, then 25/s", "told: tokens, burst of 0.2 s", "beside: semaphore of 10, found by hand")
    for name in names:
        row = next(line for line in table.splitlines() if line.startswith(f"│ {name} "))
        assert row.split("│")[2].strip() == "20 of 20"
    assert len(traces) == len(names)


def test_a_run_under_a_limit_is_judged_by_what_it_used_and_what_was_refused() -> None:
    """Whoever lost an item kept no promise either; those who stand beside are not judged."""
    unknown, told, beside = limits_sections(100, 100)
    unknown.paces["a"] = Pace(100, 99, 3.0, accepted=97, refused=3, used=0.9, trace=[])
    told.paces["a"] = Pace(100, 100, 3.0, accepted=997, refused=3, used=0.94, trace=[])
    beside.paces["a"] = Pace(100, 1, 3.0, accepted=1, refused=99, used=0.1, trace=[])
    judged = [(bound.figure, bound.holds) for section in (unknown, told, beside) for bound in section.bounds()]
    assert judged == [
        ("90.0%", True),
        ("3.00%", False),
        ("99 of 100", False),
        ("94.0%", False),
        ("0.30%", True),
        ("100 of 100", True),
    ]
