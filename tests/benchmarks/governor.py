"""Measure the governor's cost for a call that does not wait: its permit and the record of its answer.

    python -m tests.benchmarks.governor

takes some seconds. The clock is a number, so that nothing but the governor is measured: ten thousand calls a second,
under limits that are far away.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

from batch_llm import Governor, Limits
from batch_llm.pacing.adaptive_rate import RateCurve
from batch_llm.pacing.pacer import CallPermit

from .report import Bound, judge, show

FAR_AWAY = 1e9
SECONDS_BETWEEN = 1e-4
MOST_MICROS = 5.0
TOLD = {
    "no limit set": Limits(),
    "requests per minute": Limits(requests_per_minute=FAR_AWAY),
    "requests and tokens per minute": Limits(requests_per_minute=FAR_AWAY, tokens_per_minute=1e4 * FAR_AWAY),
}
USAGE = {"input_tokens": 250, "output_tokens": 100, "total_tokens": 350}


def micros_a_call(limits: Limits, calls: int) -> float:
    """Measure once, in microseconds of CPU.

    Raises:
        RuntimeError: A call had to wait: what was measured is something else.
    """
    governor, now = Governor(limits), 0.0
    governor.scope.follow(RateCurve(FAR_AWAY), 0.0)
    turns = [CallPermit(1000) for _ in range(calls)]
    began = time.process_time()
    for turn in turns:
        now += SECONDS_BETWEEN
        if governor.reserve(now, turn) > now:
            raise RuntimeError("a call had to wait")
        turn.started = now
        governor.finish(turn, now, "answered", USAGE)
    return (time.process_time() - began) / calls * 1e6


def main() -> int:
    """Measure, print the table and the bounds, return the exit code."""
    parser = argparse.ArgumentParser(description="Measure the governor's cost per call.")
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--no-bounds", action="store_true", help="judge nothing")
    options = parser.parse_args()
    rounds = [
        {name: micros_a_call(limits, options.calls) for name, limits in TOLD.items()} for _ in range(options.rounds)
    ]
    found = {name: [each[name] for each in rounds] for name in TOLD}
    rows = [[name, f"{min(each):.2f}", f"{median(each):.2f}", f"{max(each):.2f}"] for name, each in found.items()]
    caption = f"{options.calls:,} calls, {options.rounds} rounds."
    show("The governor, µs of CPU per call", ["", "least", "median", "most"], [rows], caption)
    bounds = [
        Bound(f"{name}: less than {MOST_MICROS:g} µs per call", f"{median(each):.2f} µs", median(each) < MOST_MICROS)
        for name, each in found.items()
    ]
    return 0 if options.no_bounds else judge(bounds)


if __name__ == "__main__":
    raise SystemExit(main())
