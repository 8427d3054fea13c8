"""`batch-llm simulate`."""

from __future__ import annotations

from batch_llm.cli.options import Flag, Json


def simulate(
    preset: str = "",
    /,
    *,
    items: list[int] | None = None,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    input_tokens_per_minute: float | None = None,
    output_tokens_per_minute: float | None = None,
    find_limits: Flag = False,
    latency: float = 1.0,
    latency_p95: float | None = None,
    input_tokens: float = 500,
    output_tokens: float = 100,
    model: str | None = None,
    max_workers: int | None = None,
    processes: int | None = None,
    machines: int = 1,
    cores: int | None = None,
    shard_size: int | None = None,
    failure_rate: float = 0.0,
    rate_limited: float = 0.0,
    cpu_ms: float | None = None,
    json: Json = False,
) -> int:
    """Tell what a run will take: time, cost, memory, and what it asks of the Prefect server.

    It makes no call and needs no server. The engine itself plays out the run's
    first shards in virtual time; what is beyond goes on at their pace.

    Examples:

      batch-llm simulate --items 100000 --requests-per-minute 3000
      batch-llm simulate summarize --items 1000000 --latency 2 --latency-p95 6 --failure-rate 0.01

    Parameters
    ----------
    preset
        Take the model, its prices, the limits, the workers, the canary and the retries from it, where no option says
        otherwise.
    items
        To be called; repeat it for a row each. Without it, as many as the preset's source has.
    requests_per_minute
        The provider's limit of calls.
    tokens_per_minute
        Its limit of tokens, sent and received together.
    input_tokens_per_minute
        Its limit of tokens sent, where they have one of their own.
    output_tokens_per_minute
        Its limit of tokens received, where they have one of their own.
    find_limits
        The run is not told the limits, and finds them out.
    latency
        Seconds of an answer: the median.
    latency_p95
        Seconds within which 95 of 100 answers come; without it, two and a half times the median.
    input_tokens
        Sent in a call, in the mean.
    output_tokens
        Received, in the mean.
    model
        Its price is what the run costs.
    max_workers
        Calls at once; without it, as many as the limits and the latency need.
    processes
        On each machine; without it, as many as help.
    machines
        Machines.
    cores
        Of each machine; without it, as many as this one has.
    shard_size
        Items in one shard.
    failure_rate
        Share of calls that fail with an error that can pass: 0.01 is one in a hundred.
    rate_limited
        Share of calls that are refused although the limit is kept, because others use it too.
    cpu_ms
        Milliseconds of CPU of a call; a model without an agent takes 4, an agent 14.
    json
        Print one JSON object a row.
    """
    from batch_llm.cli.actions.simulate import SimulationRequest, simulate

    asked = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "input_tokens_per_minute": input_tokens_per_minute,
        "output_tokens_per_minute": output_tokens_per_minute,
        "told": False if find_limits else None,
        "latency": latency,
        "latency_p95": 2.5 * latency if latency_p95 is None else latency_p95,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "model": model,
        "max_workers": max_workers,
        "processes": processes,
        "machines": machines,
        "cores": cores,
        "shard_size": shard_size,
        "failure_rate": failure_rate,
        "rate_limited": rate_limited,
        "call_seconds": None if cpu_ms is None else cpu_ms / 1000,
    }
    settings = {name: value for name, value in asked.items() if value is not None}
    return simulate(SimulationRequest(preset, items or [], settings), for_program=json)
