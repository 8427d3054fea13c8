"""Forecast of a whole run from a simulated window: time, cost, memory and load of the Prefect server."""

from __future__ import annotations

from dataclasses import dataclass

from batch_llm.jobs import BatchJob
from batch_llm.jobs.spending.prices import prices_of

from . import measured_costs
from .playout import SimulatedWindow, play
from .scenario import Scenario


@dataclass(frozen=True, slots=True)
class Forecast:
    """Forecast of a run.

    Attributes:
        items: Number of items.
        failed: Items that fail after all retries.
        seconds: Duration from the command to the output.
        plan_seconds: Duration of planning.
        call_seconds: Duration of the calls.
        publish_seconds: Duration of the merge and the artifacts.
        calls: Number of calls, including refused and failed calls.
        refused: Calls that were refused by a rate limit.
        input_tokens: Billed input tokens.
        output_tokens: Billed output tokens.
        cost_usd: Cost in USD; None if the model's price is not known.
        max_workers: Concurrent calls.
        processes: Processes that run shards, on all machines.
        machines: Number of machines.
        shards: Number of shards.
        memory_bytes: Peak memory of all processes on the machine with the flow.
        server_bytes: Memory of the Prefect server.
        server_requests: Requests to the Prefect server.
        server_events: Events sent to the Prefect server.
        database_bytes: Growth of the Prefect server's database.
        limit_used: Used share of the rate limit while calls are made (0 to 1); None without a limit.
        cpu_used: Used share of the cores while calls are made (0 to 1).
        workers_used: Used share of the workers while calls are made (0 to 1).
    """

    items: int
    failed: int
    seconds: float
    plan_seconds: float
    call_seconds: float
    publish_seconds: float
    calls: int
    refused: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    max_workers: int
    processes: int
    machines: int
    shards: int
    memory_bytes: int
    server_bytes: int
    server_requests: int
    server_events: int
    database_bytes: int
    limit_used: float | None
    cpu_used: float
    workers_used: float


def simulate(scenario: Scenario) -> Forecast:
    """Simulate a run within seconds and without any call.

    The first shards of each process run in virtual time with the real engine and governor. The rest of the run is
    extrapolated from the shards between the first and the last of each process.

    Args:
        scenario: The run, the provider and the machines.

    Raises:
        JobError: The name of the model is not valid.

    Example:
        >>> forecast = simulate(Scenario(items=1000, max_workers=50, prices={"input_mtok": 1, "output_mtok": 2}))
        >>> forecast.items
        1000
    """
    window = play(scenario)
    call_seconds = _call_seconds(scenario, window)
    items, counts = scenario.items, window.counts
    times = items / window.items
    plan = measured_costs.PLAN_SECONDS + measured_costs.PLAN_SECONDS_AN_ITEM * items
    publish = measured_costs.PUBLISH_SECONDS + measured_costs.PUBLISH_SECONDS_AN_ITEM * items
    seconds = measured_costs.START_SECONDS + plan + call_seconds + publish
    sent, received = round(counts.input_tokens * times), round(counts.output_tokens * times)
    return Forecast(
        items=items,
        failed=round(sum(end.failed for end in window.ends) * times),
        seconds=seconds,
        plan_seconds=plan,
        call_seconds=call_seconds,
        publish_seconds=publish,
        calls=round(counts.calls * times),
        refused=round(counts.refused * times),
        input_tokens=sent,
        output_tokens=received,
        cost_usd=_cost(scenario, sent, received),
        max_workers=scenario.workers,
        processes=scenario.at_once,
        machines=scenario.machines,
        shards=scenario.shards,
        memory_bytes=_memory(scenario),
        server_bytes=round(measured_costs.SERVER_BYTES),
        server_requests=_requests(scenario, call_seconds),
        server_events=round(measured_costs.RUN_EVENTS + measured_costs.SHARD_EVENTS * scenario.shards),
        database_bytes=round(measured_costs.RUN_DATABASE_BYTES + measured_costs.SHARD_DATABASE_BYTES * scenario.shards),
        limit_used=_limit_used(scenario, window),
        cpu_used=min(1.0, window.busy / window.processes / window.working_seconds),
        workers_used=_workers_used(scenario, window),
    )


def _call_seconds(scenario: Scenario, window: SimulatedWindow) -> float:
    """Return the duration from the start of the first shard to the end of the last shard of the run."""
    if window.whole:
        return window.seconds
    first = window.processes
    last = max(first + 1, len(window.ends) - window.processes)
    begin, end = window.ends[first - 1], window.ends[min(last, len(window.ends)) - 1]
    between = window.ends[first:last]
    items = sum(each.items for each in between)
    # Simulated shards may be smaller than the run's shards, so they end more often.
    spared = 1 - window.shard_size / scenario.items_a_shard
    drained = sum(each.drained for each in between) / window.processes
    pace = max(1e-9, end.at - begin.at - spared * drained) / items * window.share
    done = window.ahead + sum(each.items for each in window.ends[:last]) / window.share
    return end.at + max(0.0, scenario.items - done) * pace


def _cost(scenario: Scenario, sent: int, received: int) -> float | None:
    """Return the total cost; calls are priced at their mean size, because prices may depend on the size."""
    about = {"model": scenario.model, "prices": scenario.prices}
    job = BatchJob.parse({"source": "samples", "prompt": "{text}", "output": "out.jsonl", **about})
    calls = sent / scenario.input_tokens if scenario.input_tokens else float(scenario.items)
    usage = {"input_tokens": round(scenario.input_tokens), "output_tokens": round(received / max(1.0, calls))}
    one = prices_of(job).cost(usage)
    return None if one is None else calls * one


def _memory(scenario: Scenario) -> int:
    """Return the peak memory of the machine with the flow; pool processes have exited before the merge."""
    workers = measured_costs.WORKER_BYTES * scenario.workers / scenario.machines
    grown = (scenario.items / measured_costs.HALF_TABLE_ITEMS) ** measured_costs.TABLE_POWER
    merging = measured_costs.MOST_TABLE_BYTES * grown / (1 + grown)
    if not scenario.has_pool:  # the process that merges keeps the memory of the calls
        return round(measured_costs.FLOW_BYTES + workers + merging)
    processes = measured_costs.PROCESS_BYTES * scenario.at_once / scenario.machines
    return round(measured_costs.FLOW_BYTES + max(processes + workers, merging))


def _requests(scenario: Scenario, seconds: float) -> int:
    steady = seconds / measured_costs.SECONDS_A_PROGRESS + scenario.at_once * seconds / measured_costs.SECONDS_A_SHARING
    return round(measured_costs.RUN_REQUESTS + measured_costs.SHARD_REQUESTS * scenario.shards + steady)


def _limit_used(scenario: Scenario, window: SimulatedWindow) -> float | None:
    if scenario.rate_limit is None:
        return None
    answered = window.counts.calls - window.counts.refused
    return min(1.0, answered / window.working_seconds / (scenario.rate_limit * window.share))


def _workers_used(scenario: Scenario, window: SimulatedWindow) -> float:
    answered = window.counts.calls - window.counts.refused
    used = answered * scenario.mean_latency / window.working_seconds / max(1.0, scenario.workers * window.share)
    return min(1.0, used)  # a call that times out takes less than the mean
