"""Charts of estimates with their intervals: one against another, and over the values of a setting.

Quantities are shares; axes show points of a percent.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from unsee.report.drawing import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Scale, chart, rule, square_root, text, ticks

ROUND = (-1.0, -0.6, -0.3, -0.1, -0.02, 0.0, 0.02, 0.1, 0.3, 0.6, 1.0)
"""Where an axis with square-root spacing is labelled."""
APART = 0.16
"""Share of the axis left to a value that has no place on its scale."""
DECADE = 10
LETTER = 6.2
"""Width of a letter in the drawing."""


@dataclass(frozen=True)
class Point:
    """A numbered mark at two means, each (mean, low, high); `style` is its class in the style sheet."""

    number: int
    label: str
    style: str
    x: tuple[float, float, float]
    y: tuple[float, float, float]


@dataclass(frozen=True)
class Trace:
    """A numbered line through means (x, y); `labels` tell its points apart, `style` is its class in the style sheet."""

    number: int
    label: str
    style: str
    labels: tuple[str, ...]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Reading:
    """A mean with its interval, where a setting has this value: a number, or a word."""

    value: float | str
    label: str
    spread: tuple[float, float, float]


def scatter_chart(points: Sequence[Point], *, title: str, x_label: str, y_label: str, limit: float) -> Markup:
    """Marks with 95 % intervals; a dashed line at `limit` of the upright axis."""
    xs = ticks(0.0, max((point.x[2] for point in points), default=0.0))
    ys = ticks(min((point.y[1] for point in points), default=0.0), max((limit, *(point.y[2] for point in points))))
    scale = Scale(xs[0], xs[-1], ys[-1], ys[0])
    parts = [
        *_axes(scale, xs, ys, x_label, y_label),
        _limit(scale, limit),
        *(_cross(point, scale) for point in points),
        *(_numbered(p.number, p.style, scale.x(p.x[0]), scale.y(p.y[0])) for p in reversed(points)),
    ]
    told = (f"{p.number} {p.label}: {x_label} {100 * p.x[0]:.1f}, {y_label} {100 * p.y[0]:.1f}" for p in points)
    return chart(f"{title}. {'; '.join(told)}", parts)


def trace_chart(traces: Sequence[Trace], *, title: str, x_label: str, y_label: str, limit: float) -> Markup:
    """Lines through means, numbered at their last point, on axes wide near zero; a dashed line at `limit`."""
    points = [point for trace in traces for point in trace.points]
    xs, ys = _round([0.0, *(x for x, _ in points)]), _round([0.0, limit, *(y for _, y in points)])
    scale = Scale(xs[0], xs[-1], ys[-1], ys[0], square_root)
    drawn = [(trace, [(scale.x(x), scale.y(y)) for x, y in trace.points]) for trace in reversed(traces)]
    parts = [
        *_axes(scale, xs, ys, x_label, y_label),
        _limit(scale, limit),
        *(_line(trace.style, places) + _dots(trace.style, places) for trace, places in drawn),
        *(_numbered(trace.number, trace.style, *places[-1]) for trace, places in drawn),
    ]
    return chart(f"{title}. {'; '.join(_in_words(trace, x_label, y_label) for trace in traces)}", parts)


def value_chart(
    readings: Sequence[Reading], *, title: str, x_label: str, references: Mapping[str, float], as_percent: bool
) -> Markup:
    """Means with 95 % intervals over a setting's values, and horizontal lines of models that do not have the setting.

    Args:
        readings: numbers ascending, then words. Numbers over more than a decade are spaced by their logarithm; zero
            then, and words always, stand apart and are not joined to the others. Without any there is no chart.
        references: style (vanilla or retrained) -> share.
        as_percent: the upright axis goes from 0 to 100.
    """
    if not readings:
        return Markup("")
    spreads = [reading.spread for reading in readings]
    found = [*references.values(), *(low for _, low, _ in spreads), *(high for _, _, high in spreads)]
    ys = ticks(0.0, 1.0) if as_percent else ticks(min(0.0, *found), max(found))
    scale = Scale(0.0, 1.0, ys[-1], ys[0])
    places = places_of([reading.value for reading in readings])
    marks = [(scale.x(place.share), *map(scale.y, spread)) for place, spread in zip(places, spreads, strict=True)]
    joined = [(x, y) for place, (x, y, _, _) in zip(places, marks, strict=True) if place.on_scale]
    parts = [
        *(rule(scale, tick) for tick in ys),
        *_labels([(x, reading.label) for reading, (x, _, _, _) in zip(readings, marks, strict=True)]),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, x_label),
        *(_line(style, [(x, scale.y(share)) for x in (LEFT, WIDTH - RIGHT)]) for style, share in references.items()),
        *(Markup(f'<path class="cross ours" d="M{x:.1f} {low:.1f}V{high:.1f}"/>') for x, _, low, high in marks),
        _line("unlearned", joined),
        _dots("unlearned", [(x, y) for x, y, _, _ in marks]),
    ]
    told = [f"{name} {100 * share:.1f}" for name, share in references.items()]
    told += [f"{x_label} {reading.label}: {100 * reading.spread[0]:.1f}" for reading in readings]
    return chart(f"{title}. {'; '.join(told)}", parts)


@dataclass(frozen=True)
class Place:
    """Where a value stands between the ends of its axis, 0 and 1, and whether it is on the scale of the others."""

    share: float
    on_scale: bool = True


def places_of(values: Sequence[float | str]) -> list[Place]:
    """Numbers on one scale, of their logarithms if they span more than a decade; zero then before it, words behind."""
    positive = [value for value in values if not isinstance(value, str) and value > 0]
    numbers = [value for value in values if not isinstance(value, str)]
    by_logarithm = bool(positive) and min(numbers) >= 0 and max(positive) > DECADE * min(positive)
    scaled = [math.log(value) for value in positive] if by_logarithm else numbers
    words = [value for value in values if isinstance(value, str)]
    if not scaled:
        return [Place((index + 0.5) / len(words), on_scale=False) for index in range(len(words))]
    low = APART if len(scaled) < len(numbers) else 0.0
    step = min(APART, 1 / len(values))
    high = 1 - step * len(words)

    def place(value: float | str) -> Place:
        if isinstance(value, str):
            return Place(high + step * (words.index(value) + 1), on_scale=False)
        if by_logarithm and value == 0:
            return Place(0.0, on_scale=False)
        span = max(scaled) - min(scaled)
        share = ((math.log(value) if by_logarithm else value) - min(scaled)) / span if span else 0.5
        return Place(low + share * (high - low))

    return [place(value) for value in values]


def _axes(scale: Scale, xs: Sequence[float], ys: Sequence[float], x_label: str, y_label: str) -> list[Markup]:
    middle = (HEIGHT - BOTTOM + TOP) / 2
    return [
        *(rule(scale, tick) for tick in ys),
        *(text(scale.x(tick), HEIGHT - BOTTOM + 14, f"{100 * tick:.3g}") for tick in xs),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, x_label),
        Markup(f'<g transform="rotate(-90 9 {middle:.1f})">{text(9, middle, y_label)}</g>'),
    ]


def _labels(labels: Sequence[tuple[float, str]]) -> list[Markup]:
    """Words below the axis, (x, words) from left to right, as many as have room."""
    drawn, end = [], -math.inf
    for x, words in labels:
        half = LETTER * len(words) / 2
        if x - half > end:
            drawn.append(text(x, HEIGHT - BOTTOM + 14, words))
            end = x + half
    return drawn


def _limit(scale: Scale, limit: float) -> Markup:
    return Markup(f'<path class="limit" d="M{LEFT} {scale.y(limit):.1f}H{WIDTH - RIGHT}"/>')


def _cross(point: Point, scale: Scale) -> Markup:
    across = f"M{scale.x(point.x[1]):.1f} {scale.y(point.y[0]):.1f}H{scale.x(point.x[2]):.1f}"
    along = f"M{scale.x(point.x[0]):.1f} {scale.y(point.y[1]):.1f}V{scale.y(point.y[2]):.1f}"
    return Markup(f'<path class="cross {point.style}" d="{across}{along}"/>')


def _numbered(number: int, style: str, x: float, y: float) -> Markup:
    circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6.5"/>'
    return Markup(f'<g class="numbered {style}">{circle}{text(x, y + 3, str(number))}</g>')


def _line(style: str, places: Sequence[tuple[float, float]]) -> Markup:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    return Markup(f'<g class="curve {style}"><path d="M{path}"/></g>') if path else Markup("")


def _dots(style: str, places: Sequence[tuple[float, float]]) -> Markup:
    circles = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4"/>' for x, y in places)
    return Markup(f'<g class="curve {style}">{circles}</g>')


def _round(values: Iterable[float]) -> list[float]:
    """Those of ROUND that are needed to go from the lowest value to the highest."""
    found = sorted(values)
    low = max(tick for tick in ROUND if tick <= max(found[0], ROUND[0]))
    high = min(tick for tick in ROUND if tick >= min(found[-1], ROUND[-1]) and tick > low)
    return [tick for tick in ROUND if low <= tick <= high]


def _in_words(trace: Trace, x_label: str, y_label: str) -> str:
    told = (
        f"{label}: {x_label} {100 * x:.1f}, {y_label} {100 * y:.1f}"
        for label, (x, y) in zip(trace.labels, trace.points, strict=True)
    )
    return f"{trace.number} {trace.label} {', '.join(told)}"
