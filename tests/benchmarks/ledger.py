"""Measure the engine's cost of recording an item in the ledger.

    python -m tests.benchmarks.ledger

takes half a minute, `--items 500 --rounds 1 --no-bounds` some seconds. The same engine runs the same calls, paced to
some 10,000 a second, with and without a ledger; every measurement has a process of its own, and the two take turns.
"""

from __future__ import annotations

import argparse
from statistics import median

from rich.console import Console

from .contenders import Load
from .measure import Measurement, measured
from .report import Bound, judge, show

WITHOUT, WITH = "process_stream", "process_stream, ledger"
WORKERS, WAIT_SECONDS = 100, 0.01
MOST_MICROS = 10.0


def main() -> int:
    """Measure, print the table and the bound, return the exit code."""
    parser = argparse.ArgumentParser(description="Measure the engine's cost of recording items in the ledger.")
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-bounds", action="store_true", help="judge nothing")
    options = parser.parse_args()
    load = Load(options.items, WORKERS, WAIT_SECONDS)
    rounds: list[dict[str, Measurement]] = []
    with Console(stderr=True).status("") as status:
        for number in range(1, options.rounds + 1):
            status.update(f"round {number}")
            rounds.append({name: measured(name, load) for name in (WITHOUT, WITH)})
    rows = [_row(name, [each[name] for each in rounds]) for name in (WITHOUT, WITH)]
    caption = (
        f"{load.items:,} items, {WORKERS} workers, calls of {WAIT_SECONDS * 1000:g} ms; medians of {options.rounds}."
    )
    show("The ledger", ["", "CPU per item, µs", "items per second"], [rows], caption)
    cost = median(each[WITH].cpu_micros_an_item - each[WITHOUT].cpu_micros_an_item for each in rounds)
    promise = f"the ledger costs less than {MOST_MICROS:g} µs of CPU per item"
    return 0 if options.no_bounds else judge([Bound(promise, f"{cost:.1f} µs", cost < MOST_MICROS)])


def _row(name: str, runs: list[Measurement]) -> list[str]:
    cpu, speed = median(run.cpu_micros_an_item for run in runs), median(run.items_a_second for run in runs)
    return [name, f"{cpu:.1f}", f"{speed:,.0f}"]


if __name__ == "__main__":
    raise SystemExit(main())
