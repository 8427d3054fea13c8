"""Measure the engine's cost per item, compared with bare asyncio and another engine.

    uv run --group benchmark python -m tests.benchmarks.engine

takes some minutes; `--items 2000 --rounds 1 --workers 10,100 --no-bounds` some seconds. Every measurement has a process
of its own, and the contenders take turns, so that what else the machine does meets all of them alike: ratios count,
and each is the median of the ratios within a round.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from statistics import median

from rich.console import Console

from .contenders import Load, is_installed
from .measure import Measurement, measured
from .report import Bound, judge, show

ENGINES = ("process_all", "process_stream")
HOOKS = "process_all, hooks"
RIVAL = "async-batch-llm"
RIVAL_SHARE = 10
"""The rival gets one item in so many: it takes some ten times as long for each, and the cost of an item counts."""

CROWD = 1000
"""Workers for calls that wait."""


@dataclass
class Section:
    """Contenders under one load; the first is the limit for the others."""

    title: str
    load: Load
    contenders: tuple[str, ...]
    rounds: list[dict[str, Measurement]] = field(default_factory=list[dict[str, Measurement]])

    @property
    def limit(self) -> str:
        return self.contenders[0]

    def play(self) -> dict[str, Measurement]:
        """Measure each contender that is installed, one after another."""
        return {name: measured(name, self._load(name)) for name in self.contenders if is_installed(name)}

    def cpu_ratio(self, name: str, to: str) -> float:
        """CPU per item, as a multiple of another contender's."""
        return median(each[name].cpu_micros_an_item / each[to].cpu_micros_an_item for each in self.rounds)

    def speed_ratio(self, name: str, to: str) -> float:
        """Items per second, as a share of another contender's."""
        return median(each[name].items_a_second / each[to].items_a_second for each in self.rounds)

    def row(self, name: str) -> list[str]:
        """The contender's row of the table."""
        if not is_installed(name):
            return [f"{self.title}: {name}", "not installed", *[""] * 5]
        rounds = [each[name] for each in self.rounds]
        return [
            f"{self.title}: {name}",
            f"{rounds[0].items:,}",
            f"{median(each.cpu_micros_an_item for each in rounds):,.1f}",
            f"{median(each.items_a_second for each in rounds):,.0f}",
            f"{median(each.peak_bytes_an_item for each in rounds):,.0f}",
            f"{self.cpu_ratio(name, self.limit):.2f}x",
            f"{self.speed_ratio(name, self.limit):.1%}",
        ]

    def _load(self, name: str) -> Load:
        items = max(1, self.load.items // RIVAL_SHARE) if name == RIVAL else self.load.items
        return Load(items, self.load.workers, self.load.wait_seconds)


def sections(items: int, workers: list[int]) -> list[Section]:
    """What is measured; the calls that wait get half of the items, which is some 5 s of work."""
    at_once = [
        Section(f"at once, {count:,} workers", Load(items, count, 0.0), ("bare loop", *ENGINES, HOOKS, RIVAL))
        for count in workers
    ]
    load = Load(max(1, items // 2), CROWD, 0.05)
    return [*at_once, Section(f"50 ms, {CROWD:,} workers", load, ("bare semaphore", *ENGINES, HOOKS, RIVAL))]


def bounds(played: list[Section]) -> list[Bound]:
    """Return the bounds for the engine."""
    found: list[Bound] = []
    for section in played:
        for name in ENGINES:
            label = f"{section.title}: {name}"
            if section.load.wait_seconds:
                share = section.speed_ratio(name, section.limit)
                promise = f"{label} at least 95 % of the items per second of the {section.limit}"
                found.append(Bound(promise, f"{share:.1%}", share >= 0.95))
            else:
                ratio = section.cpu_ratio(name, section.limit)
                found.append(Bound(f"{label} at most 3x the CPU of the {section.limit}", f"{ratio:.2f}x", ratio <= 3))
        if not section.load.wait_seconds:
            ratio = section.cpu_ratio(HOOKS, "process_all")
            promise = f"{section.title}: with hooks at most 2x the CPU without them"
            found.append(Bound(promise, f"{ratio:.2f}x", ratio <= 2))
    return found


def main() -> int:
    """Measure, print the table and the bounds, return the exit code."""
    parser = argparse.ArgumentParser(description="Measure the engine's cost per item.")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", default="10,100,1000", help="numbers of workers for calls that return at once")
    parser.add_argument("--no-bounds", action="store_true", help="judge nothing")
    options = parser.parse_args()
    played = sections(options.items, [int(count) for count in options.workers.split(",")])
    with Console(stderr=True).status("") as status:
        for section in played:
            for number in range(options.rounds):
                status.update(f"{section.title}: round {number + 1} of {options.rounds}")
                section.rounds.append(section.play())
    _print(played, options.rounds)
    return 0 if options.no_bounds else judge(bounds(played))


def _print(played: list[Section], rounds: int) -> None:
    columns = (
        "calls",
        "items",
        "CPU per item, µs",
        "items/s",
        "peak bytes per item",
        "CPU, to bare",
        "items/s, to bare",
    )
    caption = (
        f"Rounds: {rounds}; medians. Peak bytes: growth of the resident set beyond the items themselves; results "
        "that are kept count."
    )
    show("The engine", columns, [[section.row(name) for name in section.contenders] for section in played], caption)


if __name__ == "__main__":
    raise SystemExit(main())
