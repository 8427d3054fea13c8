"""Measure how well runs use a known or unknown limit of a provider, compared with other ways to pace calls.

    uv run --group benchmark python -m tests.benchmarks.limits

takes some six minutes; `--items 60 --beside 60 --longest 10 --no-bounds` one. Each run has a process of its own, and a
server: a token bucket of 50 requests a second (or the tokens of 50 such calls) that refuses the rest with 429, and
answers after 200 ms. Some runs are concurrent, because each of them mostly waits.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from rich.console import Console

from .pacers import CAN_BE_TOLD, OURS, PACERS, RIVAL_MANY, is_installed
from .pacing import REQUESTS_A_SECOND, Pace, Scenario, paced
from .report import Bound, judge, show


@dataclass
class Section:
    """Runs with the same bounds.

    Attributes:
        least_used, most_refused: The promise, as shares; None where there is none.
    """

    title: str
    scenarios: list[Scenario]
    least_used: float | None = None
    most_refused: float | None = None
    paces: dict[str, Pace] = field(default_factory=dict[str, Pace])

    def label(self, name: str) -> str:
        """Name a run for the reader."""
        return f"{self.title}: {name}"

    def rows(self) -> list[list[str]]:
        """The section's rows of the table."""
        return [self._row(each) for each in self.scenarios]

    def _row(self, scenario: Scenario) -> list[str]:
        pace = self.paces.get(scenario.name)
        if pace is None:
            return [self.label(scenario.name), "not installed", *[""] * 4]
        return [
            self.label(scenario.name),
            f"{pace.succeeded:,} of {pace.items:,}",
            f"{pace.seconds:.1f}",
            f"{pace.used:.1%}",
            f"{pace.refused:,}",
            f"{pace.refused_share:.2%}",
        ]

    def bounds(self) -> Iterator[Bound]:
        """Yield the bounds of each run with the measured values."""
        if self.least_used is None or self.most_refused is None:
            return
        for name, pace in self.paces.items():
            label = self.label(name)
            used = f"{label}: at least {self.least_used:.0%} of the limit used"
            yield Bound(used, f"{pace.used:.1%}", pace.used >= self.least_used)
            refused = f"{label}: less than {self.most_refused:.1%} refused"
            yield Bound(refused, f"{pace.refused_share:.2%}", pace.refused_share < self.most_refused)
            done = f"{pace.succeeded:,} of {pace.items:,}"
            yield Bound(f"{label}: nothing failed", done, pace.succeeded == pace.items)


def sections(items: int, beside: int, *, longest_seconds: float = 240.0, seed: int = 0) -> list[Section]:
    """Return the runs: with an unknown limit, with a known one, and of other contenders."""
    ours = Scenario("", OURS, items, longest_seconds=longest_seconds, seed=seed)
    unknown = [
        replace(ours, name="50/s, burst of 0.2 s"),
        replace(ours, name="50/s, burst of 1 s", burst_seconds=1.0),
        replace(ours, name="50/s, then 25/s", change=0.5),
        replace(ours, name="50/s, then 100/s", change=2.0),
    ]
    silent = [replace(each, name=f"{each.name}, no Retry-After", retry_after=False) for each in unknown]
    known = [
        replace(ours, name=f"{limit}, burst of {burst:g} s", limit=limit, burst_seconds=burst, told=True)
        for limit in ("requests", "tokens")
        for burst in (0.2, 1.0)
    ]
    others = [replace(ours, name=pacer, pacer=pacer, items=beside) for pacer in PACERS]
    others += [
        replace(each, name=f"{each.name}, limit known", told=True) for each in others if each.pacer in CAN_BE_TOLD
    ]
    return [
        Section("unknown", unknown + silent, least_used=0.85, most_refused=0.03),
        Section("known", known, least_used=0.95, most_refused=0.005),
        Section("compared", others),
    ]


def run(played: list[Section], at_once: int) -> None:
    """Run all, the longest first, `at_once` at a time."""
    todo = [(section, each) for section in played for each in section.scenarios if is_installed(each.pacer)]
    todo.sort(key=lambda each: _expected_seconds(each[1]), reverse=True)
    with Console(stderr=True).status(f"{len(todo)} runs") as status, ThreadPoolExecutor(at_once) as pool:
        for number, (section, scenario, pace) in enumerate(pool.map(_paced, todo), 1):
            section.paces[scenario.name] = pace
            status.update(f"{number} of {len(todo)} runs are done")
    for section in played:
        done = section.paces
        section.paces = {each.name: done[each.name] for each in section.scenarios if each.name in done}


def _paced(one: tuple[Section, Scenario]) -> tuple[Section, Scenario, Pace]:
    return *one, paced(one[1])


def _expected_seconds(scenario: Scenario) -> float:
    """Return the minimum duration of a run; the rival pauses for five minutes at a rate limit."""
    if scenario.pacer == RIVAL_MANY:
        return scenario.longest_seconds
    return scenario.items / REQUESTS_A_SECOND / 2 * (1 + 1 / scenario.change)


def main() -> int:
    """Run, print the table and the bounds, return the exit code."""
    parser = argparse.ArgumentParser(description="Measure how well runs use a provider's limit.")
    parser.add_argument("--items", type=int, default=5000, help="items of each run with bounds")
    parser.add_argument("--beside", type=int, default=1500, help="items of each run of another contender")
    parser.add_argument("--at-once", type=int, default=8, help="number of concurrent runs")
    parser.add_argument("--only", default="", help="regular expression for the names of the rows")
    parser.add_argument("--longest", type=float, default=240.0, help="seconds after which a run is stopped")
    parser.add_argument("--seed", type=int, default=0, help="seed of the lengths of answers")
    parser.add_argument("--trace", action="store_true", help="print the accepted and refused calls of every second")
    parser.add_argument("--no-bounds", action="store_true", help="judge nothing")
    options = parser.parse_args()
    played = sections(options.items, options.beside, longest_seconds=options.longest, seed=options.seed)
    for section in played:
        section.scenarios = [each for each in section.scenarios if re.search(options.only, section.label(each.name))]
    run(played, options.at_once)
    columns = ("run", "answers", "seconds", "limit used", "refused", "of all requests")
    caption = f"Runs were stopped after {options.longest:g} s."
    show("Limits", columns, [section.rows() for section in played], caption)
    if options.trace:
        _trace(played)
    return 0 if options.no_bounds else judge([bound for section in played for bound in section.bounds()])


def _trace(played: list[Section]) -> None:
    for section in played:
        for name, pace in section.paces.items():
            seconds = (f"{accepted}-{refused}" if refused else str(accepted) for accepted, refused in pace.trace)
            sys.stdout.write(f"\n{section.label(name)}, accepted(-refused) in every second\n{' '.join(seconds)}\n")


if __name__ == "__main__":
    raise SystemExit(main())
