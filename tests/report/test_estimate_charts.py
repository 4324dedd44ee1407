"""Charts of estimates: everything inside the drawing, values in their places, and all of it told in words."""

import re
from xml.etree import ElementTree

import pytest

from unsee.report.estimate_charts import (
    Place,
    Point,
    Reading,
    Trace,
    places_of,
    scatter_chart,
    trace_chart,
    value_chart,
)


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


def read(values: list[float | str], spread: tuple[float, float, float] = (0.5, 0.4, 0.6)) -> ElementTree.Element:
    readings = [Reading(value, str(value), spread) for value in values]
    references = {"vanilla": 0.9, "retrained": 0.3}
    return ElementTree.fromstring(
        value_chart(readings, title="T", x_label="<beta>", references=references, as_percent=True)
    )


def labels(chart: ElementTree.Element) -> dict[str, float]:
    """Words below the axis -> where they stand."""
    below = [text for text in chart.findall("text") if text.get("y") == "176.0"]
    return {text.text or "": float(text.get("x", "")) for text in below}


def test_values_within_a_decade_stand_at_equal_distances() -> None:
    assert places_of([0.0, 1.0, 2.0, 4.0]) == [Place(0.0), Place(0.25), Place(0.5), Place(1.0)]
    assert places_of([7.0]) == [Place(0.5)]


def test_values_over_more_than_a_decade_stand_by_their_logarithm_and_zero_apart() -> None:
    zero, *others = places_of([0.0, 0.1, 1.0, 10.0])
    assert zero == Place(0.0, on_scale=False)
    assert all(place.on_scale for place in others)
    first, second, third = (place.share for place in others)
    assert 0 < first < second < third == 1.0
    assert second - first == pytest.approx(third - second)


def test_negative_values_have_no_logarithm() -> None:
    assert places_of([-1.0, 0.0, 99.0]) == [Place(0.0), Place(0.01), Place(1.0)]


def test_words_stand_behind_the_numbers_or_alone() -> None:
    number, first, second = places_of([8.0, "none", "null"])
    assert number.share < first.share < second.share <= 1
    assert [place.on_scale for place in (number, first, second)] == [True, False, False]
    assert places_of(["a", "b"]) == [Place(0.25, on_scale=False), Place(0.75, on_scale=False)]


def test_means_are_joined_on_the_scale_alone_and_all_are_marked() -> None:
    chart = read([0.0, 0.1, 1.0, 10.0, "none"])
    *_, line, dots = chart.findall("g")
    assert len(line[0].get("d", "").split("L")) == 3
    assert len(dots.findall("circle")) == 5
    assert len(chart.findall("path[@class='cross ours']")) == 5


def test_the_references_are_lines_at_their_height_and_words_tell_all() -> None:
    chart = read([1.0, 2.0])
    vanilla, retrained = (
        float(chart.find(f"g[@class='curve {name}']/path").get("d", "").split()[-1])
        for name in ("vanilla", "retrained")
    )
    assert vanilla < retrained
    assert chart.get("aria-label") == "T. vanilla 90.0; retrained 30.0; <beta> 1.0: 50.0; <beta> 2.0: 50.0"


def test_labels_that_have_no_room_are_left_out() -> None:
    assert set(labels(read([100.0, 100.1, 150.0]))) == {"100.0", "150.0"}


def test_without_readings_there_is_no_chart() -> None:
    assert value_chart([], title="T", x_label="x", references={"vanilla": 1.0}, as_percent=True) == ""


@pytest.mark.parametrize("spread", [(0.0, 0.0, 0.0), (-0.2, -0.3, -0.1), (0.001, 0.0, 0.002)])
def test_differences_of_any_size_stay_inside_the_drawing(spread: tuple[float, float, float]) -> None:
    chart = ElementTree.fromstring(
        value_chart([Reading(1.0, "1", spread)], title="T", x_label="x", references={}, as_percent=False)
    )
    heights = [float(circle.get("cy", "")) for circle in chart.iter("circle")]
    assert all(10 <= height <= 162 for height in heights)


def test_a_trace_goes_through_its_points_and_is_numbered_at_the_last() -> None:
    trace = Trace(3, "<ga>", "series s1", ("a", "b"), ((0.7, -0.01), (0.02, 0.5)))
    chart = ElementTree.fromstring(trace_chart([trace], title="T", x_label="x", y_label="y", limit=0.02))
    ends = chart.findall("g[@class='curve series s1']")[1].findall("circle")
    (number,) = chart.findall("g[@class='numbered series s1']")
    assert number.find("circle").get("cx") == ends[-1].get("cx")
    assert float(ends[1].get("cx")) < float(ends[0].get("cx"))
    assert float(ends[1].get("cy")) < float(ends[0].get("cy"))
    assert chart.get("aria-label") == "T. 3 <ga> a: x 70.0, y -1.0, b: x 2.0, y 50.0"


def test_no_line_is_drawn_over_a_number() -> None:
    traces = [Trace(n, str(n), f"series s{n}", ("a", "b"), ((0.3, 0.0), (0.1, 0.1))) for n in (1, 2)]
    chart = ElementTree.fromstring(trace_chart(traces, title="T", x_label="x", y_label="y", limit=0.02))
    marks = [group.get("class", "") for group in chart.findall("g[@class]")]
    assert [mark.split()[0] for mark in marks] == [*["curve"] * 4, *["numbered"] * 2]
    assert marks[-1] == "numbered series s1"


@pytest.mark.parametrize("points", [((0.0, 0.0),), ((1.0, 1.0), (0.0, -1.0)), ((0.3, -0.02), (0.0001, 0.6))])
def test_traces_of_any_size_stay_inside_the_drawing(points: tuple[tuple[float, float], ...]) -> None:
    trace = Trace(1, "vkd", "ours", tuple(map(str, points)), points)
    chart = ElementTree.fromstring(trace_chart([trace], title="T", x_label="x", y_label="y", limit=0.02))
    places = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in chart.iter("circle")]
    assert all(40 <= x <= 312 and 10 <= y <= 162 for x, y in places)
