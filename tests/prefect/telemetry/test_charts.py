"""Charts are valid images with their elements in the right places."""

from __future__ import annotations

import base64
from xml.etree import ElementTree

from hypothesis import example, given
from hypothesis import strategies as st

from batch_llm.prefect.telemetry.artifacts.charts import (
    BLUE,
    GREEN,
    HEIGHT,
    LOW,
    RED,
    TOP,
    WIDTH,
    Chart,
    Series,
    picture,
)

SVG = "{http://www.w3.org/2000/svg}"
FIGURES = st.lists(st.none() | st.floats(0, 1e12), min_size=1, max_size=60)


def drawn(*charts: Chart) -> ElementTree.Element:
    shown = picture(charts)
    return ElementTree.fromstring(base64.b64decode(shown.partition("base64,")[2].removesuffix(")")))


def test_bars_are_stacked_from_the_baseline() -> None:
    chart = Chart("Items", [Series("good", GREEN, [30, 0]), Series("bad", RED, [10, 20])], ("start", "2 s"), bars=True)
    bars = [bar for bar in drawn(chart).iter(f"{SVG}rect") if bar.get("x") and bar.get("height") != "10"]
    places = [(bar.get("fill"), float(bar.get("y", 0)), float(bar.get("height", 0))) for bar in bars]
    tenth = (LOW - TOP) / 4  # 40 items are the highest line
    assert places == [
        (GREEN, LOW - 3 * tenth, 3 * tenth),
        (RED, TOP, tenth),
        (RED, LOW - 2 * tenth, 2 * tenth),
    ]


@given(FIGURES, st.booleans())
@example([5e-324], False)
@example([2e-13, 3e-12], True)
def test_every_value_is_drawn_inside_its_chart(values: list[float | None], bars: bool) -> None:
    root = drawn(Chart("<&>", [Series("a", BLUE, values)], ("first", "last"), bars=bars))
    for line in root.iter(f"{SVG}polyline"):
        points = [tuple(map(float, point.split(","))) for point in (line.get("points") or "").split()]
        assert all(0 <= x <= WIDTH and TOP - 0.1 <= y <= LOW for x, y in points)
        assert len(points) == sum(value is not None for value in values)
    for bar in root.iter(f"{SVG}rect"):
        assert float(bar.get("y", 0)) >= TOP - 0.1
        assert float(bar.get("y", 0)) + float(bar.get("height", 0)) <= LOW + 0.2


def test_charts_are_placed_in_rows() -> None:
    one = Chart("One", [Series("a", BLUE, [1.0])], ("", ""))
    root = drawn(one, one, one)
    assert (root.get("width"), root.get("height")) == (str(2 * WIDTH), str(2 * HEIGHT))
    places = [group.get("transform") for group in root.iter(f"{SVG}g")]
    assert places == ["translate(0 0)", f"translate({WIDTH} 0)", f"translate(0 {HEIGHT})"]
