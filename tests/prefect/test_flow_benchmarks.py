"""Benchmarks of the flow at small sizes: each contender answers every item."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import cores, overhead, task_per_item
from tests.benchmarks.cores import Carried
from tests.benchmarks.fresh import fresh
from tests.benchmarks.overhead import Cost
from tests.benchmarks.second_run import write_source
from tests.benchmarks.serving import listening
from tests.benchmarks.task_per_item import Pace

ITEMS = 8


@pytest.mark.whole
@pytest.mark.prefect
def test_flow_and_engine_answer_the_same_items(
    prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_source(tmp_path, ITEMS, changed=False)
    with listening("tests.benchmarks.canned") as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        costs = [overhead.here(contender, tmp_path) for contender in (overhead.ENGINE, overhead.FLOW)]
    assert [cost.succeeded for cost in costs] == [ITEMS, ITEMS]


@pytest.mark.whole
@pytest.mark.prefect
@pytest.mark.parametrize("contender", ["task.map", "shards, model", "shards, agents"])
def test_each_contender_with_prefect_answers_every_item(prefect_api: str, contender: str) -> None:
    assert task_per_item.here(contender, ITEMS).items == ITEMS


@pytest.mark.whole
@pytest.mark.prefect
def test_durable_agent_answers_every_item(prefect_api: str) -> None:
    """In a separate process, because its flow leaves a connection to Prefect open."""
    found = fresh("tests.benchmarks.task_per_item", "--here", "pydantic-ai, durable", "--items", ITEMS)
    assert found["items"] == ITEMS


@pytest.mark.whole
@pytest.mark.prefect
def test_pool_reports_the_cpu_of_its_processes(prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cores.SEEN, "")
    with listening("tests.benchmarks.canned") as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        cost = cores.here(1, 2)
    assert (cost.answered, cost.processes) == (2, 1)
    assert cost.busiest_seconds > 0


def test_benchmark_compares_the_better_rounds() -> None:
    """The better round of each contender counts; an unanswered item fails the benchmark."""
    costs = {
        overhead.ENGINE: [Cost(9, 40.0, 1.0, 50.0), Cost(9, 60.0, 1.0, 50.0)],
        overhead.FLOW: [Cost(9, 45.0, 3.0, 50.0), Cost(9, 70.0, 3.0, 50.0)],
    }
    assert [bound.holds for bound in overhead.bounds(9, costs)] == [True, True]
    assert [bound.holds for bound in overhead.bounds(10, costs)] == [False, True]

    theirs = {("task.map", 5): Pace(5, 1.0), ("pydantic-ai, durable", 5): Pace(5, 1.0)}
    ours = {(name, count): Pace(count, 2.0) for name in task_per_item.PAIRS for count in (5, 500)}
    ours["shards, agents", 500] = Pace(500, 2.1)
    assert [bound.holds for bound in task_per_item.bounds(theirs | ours, 5, 500)] == [True, True, False]

    one = [Carried(9, 1, 20.0, 30.0), Carried(9, 1, 30.0, 30.0)]
    assert [bound.holds for bound in cores.bounds(9, {1: one, 2: [Carried(9, 2, 11.0, 30.0)]})] == [True, True]
    assert [bound.holds for bound in cores.bounds(9, {1: one, 2: [Carried(9, 1, 11.0, 30.0)]})] == [True, False]
