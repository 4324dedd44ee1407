"""Charts draw what they are given, whatever its range, and say it in words."""

from xml.etree import ElementTree

import pytest

from unsee.report.charts import MOST_POINTS, Line, dot_strip, line_chart


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
