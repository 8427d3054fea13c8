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
    """Predict the time, cost, memory and Prefect server load of a run.

    It calls no model and needs no server. The engine runs the first shards in
    virtual time; the rest is extrapolated from them.

    Examples:

      batch-llm simulate --items 100000 --requests-per-minute 3000
      batch-llm simulate summarize --items 1000000 --latency 2 --latency-p95 6 --failure-rate 0.01

    Parameters
    ----------
    preset
        Preset to take the model, prices, limits, workers, canary and retries from; options override it.
    items
        Number of items; repeat the option to compare sizes. Without it, the number in the preset's source.
    requests_per_minute
        The provider's limit of calls per minute.
    tokens_per_minute
        The provider's limit of input and output tokens together, per minute.
    input_tokens_per_minute
        The provider's limit of input tokens per minute, if it is separate.
    output_tokens_per_minute
        The provider's limit of output tokens per minute, if it is separate.
    find_limits
        Simulate a run that does not know the limits and detects them.
    latency
        Median latency of a call, in seconds.
    latency_p95
        95th percentile of the latency, in seconds; default: 2.5 times the median.
    input_tokens
        Mean number of input tokens of a call.
    output_tokens
        Mean number of output tokens of a call.
    model
        Model whose prices are used.
    max_workers
        Concurrent calls; default: as many as the limits and the latency need.
    processes
        Processes on each machine; default: as many as make the run faster.
    machines
        Number of machines.
    cores
        CPU cores of each machine; default: as many as this machine has.
    shard_size
        Items in a shard.
    failure_rate
        Share of calls that fail with a retryable error: 0.01 is one in a hundred.
    rate_limited
        Share of calls that get a 429 although the limit is respected, because others use it too.
    cpu_ms
        CPU time of a call in milliseconds; default: 4 for a model without an agent, 14 with one.
    json
        Print one JSON object per number of items.
    """
    from batch_llm.cli.actions.simulate import SimulationRequest, print_forecasts

    asked = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "input_tokens_per_minute": input_tokens_per_minute,
        "output_tokens_per_minute": output_tokens_per_minute,
        "limits_known": False if find_limits else None,
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
    return print_forecasts(SimulationRequest(preset, items or [], settings), for_program=json)
