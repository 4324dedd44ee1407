"""Charts draw what they are given, whatever its range, and say it in words."""

import re
from xml.etree import ElementTree

import pytest

from unsee.report.charts import MOST_POINTS, Line, Point, dot_strip, line_chart, scatter_chart


def drawn(points: list[tuple[float, float]], as_percent: bool = False) -> ElementTree.Element:
    chart = line_chart([Line("loss", "plain", tuple(points))], title="Loss", x_label="steps", as_percent=as_percent)
    return ElementTree.fromstring(chart)


@pytest.mark.parametrize("points", [[(0, 0.0)], [(0, 1e-9), (1, 3e-9)], [(5, 2.0), (5, 2.0)], [(0, 1e6), (9, -1.0)]])
def test_any_range_stays_inside_the_drawing(points: list[tuple[float, float]]) -> None:
    circles = drawn(points).findall(".//circle")
    assert len(circles) == len(points)
    assert all(0 <= float(c.get("cx", "")) <= 320 and 0 <= float(c.get("cy", "")) <= 196 for c in circles)


def test_long_curves_are_thinned_by_means() -> None:
    curve = drawn([(step, float(step % 2)) for step in range(10_000)]).find(".//g/path")
    assert curve is not None
    corners = curve.get("d", "").removeprefix("M").split("L")
    assert len(corners) <= MOST_POINTS
    assert all(abs(float(corner.split()[1]) - float(corners[0].split()[1])) < 6 for corner in corners)


def test_labels_are_escaped_and_told_in_words() -> None:
    chart = line_chart([Line("a<b", "plain", ((0, 0.25), (5, 0.5)))], title='"T"', x_label="&", as_percent=True)
    label = ElementTree.fromstring(chart).get("aria-label")
    assert label is not None
    assert label.replace("\N{NARROW NO-BREAK SPACE}", " ") == '"T". a<b from 25 % to 50 %'


def test_nothing_to_draw_is_nothing() -> None:
    assert line_chart([Line("empty", "plain", ())], title="", x_label="", as_percent=False) == ""
    assert ElementTree.fromstring(dot_strip({"vanilla": None})).findall("circle") == []


def scattered(points: list[Point]) -> ElementTree.Element:
    return ElementTree.fromstring(scatter_chart(points, title="All", x_label="x", y_label="y", limit=0.02))


@pytest.mark.parametrize("spread", [0.0, 1e-6, 0.3, 1.0])
def test_marks_and_intervals_stay_inside_the_drawing(spread: float) -> None:
    ends = (0.1, 0.1 - min(spread, 0.1), 0.1 + spread)
    chart = scattered([Point(1, "a", "ours", ends, ends), Point(2, "b", "matched", (0.0,) * 3, (-0.04, -0.05, 0.0))])
    assert len(chart.findall(".//circle")) == 2
    drawn = [float(n) for path in chart.findall("path[@class]") for n in re.findall(r"\d+\.\d+", path.get("d", ""))]
    assert drawn
    assert all(0 <= number <= 320 for number in drawn)


def test_further_right_and_further_up_is_more() -> None:
    points = [Point(n, str(n), "matched", (n / 10,) * 3, (n / 10,) * 3) for n in (1, 2)]
    second, first = scattered(points).findall(".//circle")
    assert float(first.get("cx", "")) < float(second.get("cx", ""))
    assert float(first.get("cy", "")) > float(second.get("cy", ""))


def test_marks_are_told_in_words_and_escaped() -> None:
    label = scattered([Point(1, "<a>", "ours", (0.25,) * 3, (-0.01,) * 3)]).get("aria-label")
    assert label == "All. 1 <a>: x 25.0, y -1.0"
