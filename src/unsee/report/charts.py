"""Charts as inline SVG, coloured by the page's style sheet and told apart by shape and dash as well as by colour."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from unsee.report.drawing import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH, Scale, chart, round_up
from unsee.report.wording import percent

MOST_POINTS = 160
MARKED_POINTS = 12


@dataclass(frozen=True)
class Line:
    """One curve; `style` is its class in the style sheet (vanilla, retrained, unlearned or plain)."""

    label: str
    style: str
    points: tuple[tuple[float, float], ...]


def line_chart(lines: Sequence[Line], *, title: str, x_label: str, as_percent: bool) -> Markup:
    """A chart of curves from zero up; with `as_percent` the axis is 0 to 100 %."""
    lines = [Line(line.label, line.style, _thinned(line.points)) for line in lines if line.points]
    if not lines:
        return Markup("")
    xs = [x for line in lines for x, _ in line.points]
    top = 1.0 if as_percent else round_up(max(y for line in lines for _, y in line.points))
    scale = Scale(min(xs), max(xs), top)
    parts = [_y_axis(scale, as_percent), _x_axis(scale, x_label), *(_curve(line, scale) for line in lines)]
    return chart(f"{title}. {_in_words(lines, as_percent)}", parts)


def dot_strip(values: Mapping[str, float | None]) -> Markup:
    """Where the models stand between 0 and 100 %: a ring for vanilla, a diamond for retrained, a disc for unlearned."""
    marks = [_mark(model, 12 + 216 * value) for model, value in values.items() if value is not None]
    words = escape(", ".join(f"{model} {percent(value)}" for model, value in values.items() if value is not None))
    axis = Markup('<path class="axis" d="M12 12H228M12 8v8M120 9v6M228 8v8"/>')
    ends = Markup(
        '<text x="12" y="33" text-anchor="middle">0</text><text x="228" y="33" text-anchor="middle">100 %</text>'
    )
    body = axis + ends + Markup("").join(marks)
    return Markup(f'<svg class="strip" role="img" aria-label="{words}" viewBox="0 0 240 36">{body}</svg>')


def key_mark(model: str) -> Markup:
    """The mark of a model, for the key."""
    return Markup(f'<svg class="key" aria-hidden="true" viewBox="0 0 24 24">{_mark(model, 12)}</svg>')


def _mark(model: str, x: float) -> Markup:
    if model == "retrained":
        return Markup(f'<path class="mark retrained" d="M{x:.1f} 3l9 9l-9 9l-9 -9z"/>')
    radius = 5.2 if model == "unlearned" else 8.5
    return Markup(f'<circle class="mark {model}" cx="{x:.1f}" cy="12" r="{radius}"/>')


def _curve(line: Line, scale: Scale) -> Markup:
    places = [(scale.x(x), scale.y(y)) for x, y in line.points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dots = places if len(places) <= MARKED_POINTS else []
    circles = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4"/>' for x, y in dots)
    return Markup(f'<g class="curve {line.style}"><path d="M{path}"/>{circles}</g>')


def _y_axis(scale: Scale, as_percent: bool) -> Markup:
    ticks = [scale.y_high * quarter / 4 for quarter in range(5)]
    rules = "".join(f'<path class="rule" d="M{LEFT} {scale.y(tick):.1f}H{WIDTH - RIGHT}"/>' for tick in ticks)
    labels = "".join(
        f'<text x="{LEFT - 6}" y="{scale.y(tick) + 4:.1f}" text-anchor="end">{_tick(tick, as_percent)}</text>'
        for tick in ticks
    )
    return Markup(rules + labels)


def _x_axis(scale: Scale, label: str) -> Markup:
    y = HEIGHT - BOTTOM + 15
    ends = f'<text x="{LEFT}" y="{y}" text-anchor="middle">{scale.x_low:g}</text>'
    ends += f'<text x="{WIDTH - RIGHT}" y="{y}" text-anchor="end">{scale.x_high:g}</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    return Markup(f'{ends}<text x="{middle:.0f}" y="{y + 2}" text-anchor="middle">{escape(label)}</text>')


def _tick(value: float, as_percent: bool) -> str:
    return f"{100 * value:.0f}" if as_percent else f"{value:.3g}"


def _in_words(lines: Sequence[Line], as_percent: bool) -> str:
    def said(value: float) -> str:
        return percent(value) if as_percent else f"{value:.3g}"

    return "; ".join(f"{line.label} from {said(line.points[0][1])} to {said(line.points[-1][1])}" for line in lines)


def _thinned(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """At most MOST_POINTS points: means of equal runs of neighbours."""
    run = math.ceil(len(points) / MOST_POINTS)
    groups = [points[start : start + run] for start in range(0, len(points), run)] if run > 1 else [[p] for p in points]
    return tuple((sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups)
