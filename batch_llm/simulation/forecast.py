"""From a window to the whole run: what it takes in time, money, memory, and of the Prefect server."""

from __future__ import annotations

from dataclasses import dataclass

from batch_llm.jobs import BatchJob
from batch_llm.jobs.spending.prices import prices_of

from . import measured_costs
from .playout import SimulatedWindow, play
from .scenario import Scenario


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run will take.

    Attributes:
        items: Items.
        failed: Items that fail in the end.
        seconds: From the command to the output.
        plan_seconds, call_seconds, publish_seconds: Of that, the plan, the calls, the merge and the artifacts.
        calls: Calls made, refused and failed ones included.
        refused: Calls that met a rate limit.
        input_tokens, output_tokens: Billed.
        cost_usd: None where the model's price is not known.
        max_workers: Calls at once.
        processes: Processes that carry shards, on all machines.
        machines: Machines.
        shards: Shards.
        memory_bytes: Of the processes on the machine with the flow, at most, together.
        server_bytes: Of the Prefect server.
        server_requests, server_events: What the Prefect server is asked and told.
        database_bytes: By how much its database grows.
        limit_used, cpu_used, workers_used: Shares, while calls are made; None where there is no limit.
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
    """Tell what a run will take, in some seconds and without a call.

    The first shards of each process are played out in virtual time, by the engine and the governor themselves. What is
    beyond goes on at the pace of those between the first and the last of each process.

    Raises:
        JobError: The model's price is asked for by a name that cannot be.
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
    """Return when the last shard of the whole run ends, counted from the first one's start."""
    if window.whole:
        return window.seconds
    first = window.processes
    last = max(first + 1, len(window.ends) - window.processes)
    begin, end = window.ends[first - 1], window.ends[min(last, len(window.ends)) - 1]
    between = window.ends[first:last]
    items = sum(each.items for each in between)
    # What is played out in smaller shards than there are ends more often than it will.
    spared = 1 - window.shard_size / scenario.items_a_shard
    drained = sum(each.drained for each in between) / window.processes
    pace = max(1e-9, end.at - begin.at - spared * drained) / items * window.share
    done = window.ahead + sum(each.items for each in window.ends[:last]) / window.share
    return end.at + max(0.0, scenario.items - done) * pace


def _cost(scenario: Scenario, sent: int, received: int) -> float | None:
    """Return the sum; a call is priced by its mean length, for a price may depend on that."""
    about = {"model": scenario.model, "prices": scenario.prices}
    job = BatchJob.parse({"source": "samples", "prompt": "{text}", "output": "out.jsonl", **about})
    calls = sent / scenario.input_tokens if scenario.input_tokens else float(scenario.items)
    usage = {"input_tokens": round(scenario.input_tokens), "output_tokens": round(received / max(1.0, calls))}
    one = prices_of(job).cost(usage)
    return None if one is None else calls * one


def _memory(scenario: Scenario) -> int:
    """Return what the machine with the flow needs: processes of a pool have ended when their answers are merged."""
    workers = measured_costs.WORKER_BYTES * scenario.workers / scenario.machines
    grown = (scenario.items / measured_costs.HALF_TABLE_ITEMS) ** measured_costs.TABLE_POWER
    merging = measured_costs.MOST_TABLE_BYTES * grown / (1 + grown)
    if not scenario.has_pool:  # the calls' memory stays with the process that merges
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
    return min(1.0, used)  # a call that meets its timeout takes less than the mean
