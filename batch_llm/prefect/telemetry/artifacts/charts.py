"""Small SVG charts: Prefect's markdown shows images from `data:` addresses, but neither mermaid nor inline SVG.

They are drawn here, because chart libraries add much that an image does not need: pygal's SVG has 29 kB, mostly styles
and scripts, and leather paints a white background. The UI is dark or light, so charts have no background, and their
grey is readable on both.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 480, 210
LEFT, RIGHT, TOP, LOW = 66, WIDTH - 16, 54, HEIGHT - 30
"""Edges of the plot area."""

MOST_DOTS = 31
NOTHING = 1e-12
"""A chart with only smaller values is drawn as zeros; floats near the smallest have no power of ten."""

TEXT, GRID = "#8b949e", "#8b949e40"
GREEN, RED, BLUE, ORANGE = "#2fa36b", "#e5534b", "#539bf5", "#c69026"

Formatter = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a chart; None for a missing value."""

    name: str
    color: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of one or more series over the same x.

    Attributes:
        title: Title with the unit.
        series: Series, drawn as lines or stacked bars.
        ends: Labels of the first and the last x.
        format_value: Function that formats a value of the y axis.
        bars: Whether the series are bars.
    """

    title: str
    series: Sequence[Series]
    ends: tuple[str, str]
    format_value: Formatter = "{:,g}".format
    bars: bool = False


def picture(charts: Sequence[Chart], columns: int = 2) -> str:
    """Return charts side by side as one image in markdown; its alt text lists their titles."""
    rows = math.ceil(len(charts) / columns)
    drawn = [_placed(_draw(chart), at % columns * WIDTH, at // columns * HEIGHT) for at, chart in enumerate(charts)]
    size = f'width="{WIDTH * columns}" height="{HEIGHT * rows}"'
    image = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">{"".join(drawn)}</svg>'
    shown = "; ".join(chart.title for chart in charts)
    return f"![{shown}](data:image/svg+xml;base64,{base64.b64encode(image.encode()).decode()})"


def _draw(chart: Chart) -> str:
    highest = max((value or 0.0 for one in chart.series for value in one.values), default=0.0)
    if chart.bars:
        stacks = zip(*(one.values for one in chart.series), strict=True)
        highest = max((sum(value or 0.0 for value in stack) for stack in stacks), default=0.0)
    ticks = _ticks(highest)
    scale = _Scale(max(1, *(len(one.values) for one in chart.series)), ticks[-1])
    parts = [_text(LEFT, 18, chart.title, "start", 16), *_legend(chart.series)]
    for tick in ticks:
        y = scale.y(tick)
        parts.append(f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y}" y2="{y}" stroke="{GRID}"/>')
        parts.append(_text(LEFT - 6, y + 4, chart.format_value(tick), "end"))
    parts += [_text(LEFT, HEIGHT - 10, chart.ends[0], "start"), _text(RIGHT, HEIGHT - 10, chart.ends[1], "end")]
    return "".join([*parts, *(_bars if chart.bars else _lines)(chart.series, scale)])


@dataclass(frozen=True, slots=True)
class _Scale:
    steps: int
    highest: float

    @property
    def step(self) -> float:
        return (RIGHT - LEFT) / self.steps

    def x(self, at: float) -> float:
        return round(LEFT + at * self.step, 1)

    def y(self, value: float) -> float:
        return round(LOW - (LOW - TOP) * value / self.highest, 1)


def _bars(series: Sequence[Series], scale: _Scale) -> Iterator[str]:
    below = [0.0] * scale.steps
    for one in series:
        for at, value in enumerate(one.values):
            if value:
                y, foot = scale.y(below[at] + value), scale.y(below[at])
                size = f'width="{scale.step * 0.8:.1f}" height="{foot - y:.1f}"'
                yield f'<rect x="{scale.x(at + 0.1)}" y="{y}" {size} fill="{one.color}"/>'
                below[at] += value


def _lines(series: Sequence[Series], scale: _Scale) -> Iterator[str]:
    for one in series:
        known = [(scale.x(at + 0.5), scale.y(value)) for at, value in enumerate(one.values) if value is not None]
        path = " ".join(f"{x},{y}" for x, y in known)
        yield f'<polyline points="{path}" fill="none" stroke="{one.color}" stroke-width="2"/>'
        if len(known) <= MOST_DOTS:
            yield from (f'<circle cx="{x}" cy="{y}" r="3" fill="{one.color}"/>' for x, y in known)


def _ticks(highest: float) -> list[float]:
    """Return round numbers from 0 to just above the highest value."""
    if highest < NOTHING:
        return [0.0, 1.0]
    rough = highest / 3
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(round_ * power for round_ in (1, 2, 2.5, 5, 10) if round_ * power >= rough * 0.999)
    return [step * count for count in range(math.ceil(highest / step * 0.999) + 1)]


def _legend(series: Sequence[Series]) -> Iterator[str]:
    x = LEFT
    for one in series if len(series) > 1 else ():
        yield f'<rect x="{x}" y="28" width="10" height="10" fill="{one.color}"/>' + _text(x + 15, 37, one.name, "start")
        x += 36 + 8 * len(one.name)


def _text(x: float, y: float, words: str, anchor: str, size: int = 13) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" fill="{TEXT}">{escape(words)}</text>'


def _placed(drawn: str, x: int, y: int) -> str:
    return f'<g transform="translate({x} {y})">{drawn}</g>'
