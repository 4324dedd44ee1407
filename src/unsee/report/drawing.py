"""What charts are drawn with: the frame, scales from data to drawing coordinates, rules, round numbers."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 320, 196
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 10, 34


def linear(value: float) -> float:
    """As it is."""
    return value


def square_root(value: float) -> float:
    """Wide near zero, narrow far from it, on either side."""
    return math.copysign(math.sqrt(abs(value)), value)


@dataclass(frozen=True)
class Scale:
    """Data to drawing coordinates; what lies outside is drawn on the edge."""

    x_low: float
    x_high: float
    y_high: float
    y_low: float = 0.0
    spaced: Callable[[float], float] = linear

    def x(self, value: float) -> float:
        return LEFT + self._share(value, self.x_low, self.x_high) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - self._share(value, self.y_low, self.y_high) * (HEIGHT - TOP - BOTTOM)

    def _share(self, value: float, low: float, high: float) -> float:
        value, low, high = map(self.spaced, (value, low, high))
        return min(max((value - low) / ((high - low) or 1.0), 0.0), 1.0)


def chart(words: str, parts: Iterable[Markup]) -> Markup:
    """The drawing, and what it shows in words."""
    label, body = escape(words), Markup("").join(parts)
    return Markup(f'<svg class="chart" role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {HEIGHT}">{body}</svg>')


def rule(scale: Scale, tick: float) -> Markup:
    """A horizontal line at a share, labelled in points of a percent."""
    label = Markup(f'<text x="{LEFT - 6}" y="{scale.y(tick) + 4:.1f}" text-anchor="end">{100 * tick:.3g}</text>')
    return Markup(f'<path class="rule" d="M{LEFT} {scale.y(tick):.1f}H{WIDTH - RIGHT}"/>') + label


def text(x: float, y: float, words: str) -> Markup:
    """Words around `x`."""
    return Markup(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{escape(words)}</text>')


def ticks(low: float, high: float) -> list[float]:
    """A few round numbers at equal distances, from `low` or below to `high` or above."""
    step = round_up(max(high - low, 1e-3) / 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * number for number in range(first, max(last, first + 1) + 1)]


def round_up(value: float) -> float:
    """The next of 1, 2, 4, 6, 8, 10 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= value * (1 - 1e-9))
