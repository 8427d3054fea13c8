"""The memory of a process while a long stream passes through the engine.

    python -m tests.benchmarks.stream

takes a minute or two, `--items 20000 --no-bounds` a few seconds. Each stream has a process of its own. Memory is the
resident set, on Linux: tracing a million items would take too long.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import asdict, dataclass

from rich.console import Console

from batch_llm import ProcessorConfig

from .contenders import Load, Processor, echoes, hooked
from .fresh import fresh
from .memory import peak_bytes, resident_bytes
from .report import Bound, judge, show

WORKERS = 100
MEGABYTE = 1_000_000
MOST_GROWTH_MB = 50.0
MOST_GROWTH_AFTER_A_TENTH_MB = 2.0
"""What counts as flat: a resident set also moves by what the allocator keeps."""

STREAMS = {"process_stream": [], "process_stream, hooks": ["--hooks"]}


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident megabytes: at the start, at each tenth of the stream, and at most."""

    start: float
    tenths: list[float]
    peak: float

    @property
    def growth(self) -> float:
        return self.peak - self.start

    @property
    def growth_after_a_tenth(self) -> float:
        return max(self.tenths) - self.tenths[0]

    def row(self, name: str) -> list[str]:
        """The stream's row of the table."""
        return [name, *(f"{reading:.1f}" for reading in (self.start, *self.tenths, self.peak))]


async def watch(processor: Processor, items: int) -> Memory:
    """Stream `items` through `processor`.

    Raises:
        RuntimeError: An item did not succeed.
    """
    seen = succeeded = 0
    start, tenths = resident_bytes() / MEGABYTE, list[float]()
    async for result in processor.process_stream(echoes(Load(items, WORKERS, 0.0))):
        seen += 1
        succeeded += result.success
        if seen * 10 // items > len(tenths):
            tenths.append(resident_bytes() / MEGABYTE)
    if succeeded != items:
        raise RuntimeError(f"{succeeded} of {items} items succeeded")
    return Memory(start, tenths, peak_bytes() / MEGABYTE)


def bounds(streams: dict[str, Memory]) -> list[Bound]:
    """Return the bounds for a stream's memory."""
    found: list[Bound] = []
    for name, memory in streams.items():
        promise = f"{name}: peak less than {MOST_GROWTH_MB:g} MB above the start"
        found.append(Bound(promise, f"{memory.growth:.1f} MB", memory.growth < MOST_GROWTH_MB))
        grown = memory.growth_after_a_tenth
        promise = f"{name}: flat, less than {MOST_GROWTH_AFTER_A_TENTH_MB:g} MB more after the first 10 %"
        found.append(Bound(promise, f"{grown:.1f} MB", grown < MOST_GROWTH_AFTER_A_TENTH_MB))
    return found


def main() -> int:
    """Stream, print the table and the bounds, return the exit code."""
    parser = argparse.ArgumentParser(description="Measure the memory of a long stream.")
    parser.add_argument("--items", type=int, default=1_000_000, help="at least 10")
    parser.add_argument("--no-bounds", action="store_true", help="judge nothing")
    parser.add_argument("--here", action="store_true", help="one stream in this process, printed as JSON")
    parser.add_argument("--hooks", action="store_true", help="that stream with a middleware and observers")
    options = parser.parse_args()
    if options.here:
        processor = hooked(WORKERS) if options.hooks else Processor(ProcessorConfig(max_workers=WORKERS))
        print(json.dumps(asdict(asyncio.run(watch(processor, options.items)))))
        return 0
    streams = _stream_each(options.items)
    columns = ["stream", "start", *(f"{tenth}0 %" for tenth in range(1, 11)), "peak"]
    caption = f"{options.items:,} items, {WORKERS} workers; resident megabytes."
    show("Memory of a stream", columns, [[memory.row(name) for name, memory in streams.items()]], caption)
    return 0 if options.no_bounds else judge(bounds(streams))


def _stream_each(items: int) -> dict[str, Memory]:
    streams: dict[str, Memory] = {}
    with Console(stderr=True).status("") as status:
        for name, options in STREAMS.items():
            status.update(f"{name}: {items:,} items")
            measured = fresh("tests.benchmarks.stream", "--here", "--items", items, *options, timeout_seconds=600.0)
            streams[name] = Memory(**measured)
    return streams


if __name__ == "__main__":
    raise SystemExit(main())
