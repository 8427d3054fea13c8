"""One measurement in a fresh process, which has nothing behind it.

    python -m tests.benchmarks.measure "process_all" --items 100000 --workers 100 --wait-seconds 0.05

prints it as JSON. The items are made before the clock starts, and a small run of the same kind goes before it, for
what is imported or compiled at the first call.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import asdict, dataclass, replace

from .contenders import CONTENDERS, Load, Timed
from .fresh import fresh
from .memory import forget_peak, peak_bytes, resident_bytes

_WARM_UP_ITEMS = 50


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a run cost.

    Attributes:
        items: Items, all of which succeeded.
        cpu_seconds: CPU of the process.
        seconds: By the clock.
        peak_bytes: By how much the resident set grew at most: memory beyond the items themselves.
    """

    items: int
    cpu_seconds: float
    seconds: float
    peak_bytes: int

    @property
    def cpu_micros_an_item(self) -> float:
        return self.cpu_seconds / self.items * 1e6

    @property
    def items_a_second(self) -> float:
        return self.items / self.seconds

    @property
    def peak_bytes_an_item(self) -> float:
        return self.peak_bytes / self.items


def measured(contender: str, load: Load) -> Measurement:
    """Measure in a process of its own.

    Raises:
        RuntimeError: It failed, or an item did not succeed; the message has the process's own words.
    """
    size = ("--items", load.items, "--workers", load.workers, "--wait-seconds", load.wait_seconds)
    return Measurement(**fresh("tests.benchmarks.measure", contender, *size))


def here(contender: str, load: Load) -> Measurement:
    """Measure in this process."""
    small = replace(load, items=min(load.items, _WARM_UP_ITEMS))
    asyncio.run(clocked(CONTENDERS[contender](small), small.items))
    return asyncio.run(clocked(CONTENDERS[contender](load), load.items))


async def clocked(timed: Timed, items: int) -> Measurement:
    """Run it between two looks at the clocks.

    Raises:
        RuntimeError: An item did not succeed: what was measured is not the work.
    """
    forget_peak()
    resident = resident_bytes()
    began, cpu_began = time.perf_counter(), time.process_time()
    succeeded = await timed()
    cpu_seconds, seconds = time.process_time() - cpu_began, time.perf_counter() - began
    if succeeded != items:
        raise RuntimeError(f"{succeeded} of {items} items succeeded")
    return Measurement(items, cpu_seconds, seconds, peak_bytes() - resident)


def main() -> None:
    """Measure once and print it."""
    parser = argparse.ArgumentParser(description="Measure one contender once.")
    parser.add_argument("contender", choices=list(CONTENDERS))
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--wait-seconds", type=float, default=0.0)
    options = parser.parse_args()
    load = Load(options.items, options.workers, options.wait_seconds)
    print(json.dumps(asdict(here(options.contender, load))))


if __name__ == "__main__":
    main()
