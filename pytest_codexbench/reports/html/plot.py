"""Plots that stand still, as SVG in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_codexbench.reports.html.markup import Markup, element, plain

# A plot is as wide as a phone, so that its letters never shrink; wide screens show several side by side.
WIDTH, HEIGHT = 340.0, 236.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 16.0, 12.0, 42.0
COLOURS, MARKERS = 7, 7
MOST_TICKS, MOST_DIGITS = 6, 10_000
# An axis over which values differ more than this is logarithmic.
MOST_LINEAR = 20.0
REACH = 4.0
# A point this near to its line is not drawn.
UNSEEN = 0.15

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its title with the unit, what it reaches from and to, and where it is marked."""

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where a value lies between the ends, 0 to 1; what is beyond an end lies on it."""
        inside = min(max(value, self.low), self.high)
        if self.logarithmic:
            return math.log(inside / self.low) / math.log(self.high / self.low)
        return (inside - self.low) / (self.high - self.low)


def differ_much(values: Sequence[float]) -> bool:
    """Whether these values need a logarithmic axis."""
    known = [value for value in values if 0 < value < math.inf] or [1.0]
    return max(known) / min(known) > MOST_LINEAR


def axis(title: str, values: Sequence[float], by_decades: bool = False) -> Axis:
    """An axis for these values: linear from 0, or logarithmic from a round number to a round number."""
    known = [value for value in values if 0 < value < math.inf] or [1.0]
    least, most = min(known), max(known)
    if by_decades:
        steps = [factor * 10.0**power for power in range(-10, 12) for factor in (1, 2, 5)]
        low = max(step for step in steps if step <= least)
        high = min(step for step in steps if step >= most and step > low)
        inside = [step for step in steps if low <= step <= high]
        decades = [step for step in inside if math.log10(step).is_integer()]
        chosen = inside if len(inside) <= MOST_TICKS else decades if len(decades) > 1 else inside[::2]
        return Axis(title, low, high, tuple((step, tick_text(step)) for step in chosen), logarithmic=True)
    step = _step(most / (MOST_TICKS - 1))
    count = math.ceil(most / step - 1e-9)
    ticks = tuple((step * index, tick_text(step * index)) for index in range(count + 1))
    return Axis(title, 0.0, step * count, ticks)


def _step(least: float) -> float:
    """The round number that is not below ``least``: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= least * (1 - 1e-9))


def tick_text(value: float) -> str:
    """A tick's number, without digits that are nought."""
    return f"{value / 1000:.6g}k" if value >= MOST_DIGITS else f"{value:.6g}"


def logarithmic(title: str, marks: Sequence[tuple[float, str]]) -> Axis:
    """An axis that has just these marks, a little room beside the outer ones."""
    low, high = min(value for value, _ in marks), max(value for value, _ in marks)
    room = (high / low) ** 0.08 if high > low else 2.0
    return Axis(title, low / room, high * room, tuple(marks), logarithmic=True)


@dataclass(frozen=True, slots=True)
class Mark:
    """One value with its limits; ``interval`` says whether they are an interval or a mere range."""

    x: float
    y: float
    low: float
    high: float
    interval: bool
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """What one system says in a plot: marks, or a curve with a band around it. ``style`` numbers its look."""

    name: str
    style: int
    marks: tuple[Mark, ...] = ()
    curve: tuple[Point, ...] = ()
    band: tuple[tuple[Point, ...], tuple[Point, ...]] | None = None


def plot(name: str, title: str, told: str, x: Axis, y: Axis, lines: Sequence[Line]) -> Markup:
    """One plot; ``name`` makes its ids, ``told`` says in words what is seen."""
    area = _Area(x, y)
    shift = {line.style: (index - (len(lines) - 1) / 2) * 4.0 for index, line in enumerate(lines)}
    return element(
        "svg",
        element("title", title, id=f"{name}-t"),
        element("desc", told, id=f"{name}-d"),
        area.grid(),
        [area.band(line) for line in lines if line.band],
        [area.curve(line) for line in lines if line.curve],
        [area.marks(line, shift[line.style]) for line in lines if line.marks],
        viewbox=f"0 0 {plain(WIDTH)} {plain(HEIGHT)}",
        role="img",
        class_="plot",
        aria_labelledby=f"{name}-t {name}-d",
    )


class _Area:
    """Where the values of two axes lie in the picture."""

    def __init__(self, x: Axis, y: Axis) -> None:
        self.x_axis, self.y_axis = x, y

    def x(self, value: float) -> float:
        return LEFT + self.x_axis.share(value) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - self.y_axis.share(value) * (HEIGHT - TOP - BOTTOM)

    def grid(self) -> Markup:
        """The lines of both axes with their numbers and titles."""
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        across = "".join(f"M{plain(LEFT)} {plain(self.y(value))}H{plain(right)}" for value, _ in self.y_axis.ticks)
        up = "".join(f"M{plain(self.x(value))} {plain(bottom)}v4" for value, _ in self.x_axis.ticks)
        middle = (TOP + bottom) / 2
        return element(
            "g",
            element("path", d=across, class_="grid"),
            element("path", d=f"M{plain(LEFT)} {plain(bottom)}H{plain(right)}{up}", class_="axis"),
            [
                element("text", text, x=LEFT - 6, y=self.y(value) + REACH, text_anchor="end")
                for value, text in self.y_axis.ticks
            ],
            [
                element("text", text, x=self.x(value), y=bottom + 16, text_anchor="middle")
                for value, text in self.x_axis.ticks
            ],
            element(
                "text", self.x_axis.title, x=(LEFT + right) / 2, y=HEIGHT - 6, text_anchor="middle", class_="axis-title"
            ),
            element(
                "text",
                self.y_axis.title,
                transform=f"translate(11 {plain(middle)}) rotate(-90)",
                text_anchor="middle",
                class_="axis-title",
            ),
        )

    def path(self, points: Sequence[Point]) -> str:
        """A line through the points, but for those that would be seen nowhere else."""
        places = straightened([(self.x(x), self.y(y)) for x, y in points])
        return "M" + "L".join(dict.fromkeys(f"{plain(x)} {plain(y)}" for x, y in places))

    def band(self, line: Line) -> Markup:
        """What lies between two curves."""
        early, late = line.band or ((), ())
        return element("path", d=f"{self.path([*early, *reversed(late)])}Z", class_=f"band s{line.style % COLOURS}")

    def curve(self, line: Line) -> Markup:
        """A curve, with the system's mark at its end, so that it is known without its colour."""
        end = line.curve[-1]
        return element(
            "g",
            element("path", d=self.path(line.curve), class_=f"line s{line.style % COLOURS} d{line.style % MARKERS}"),
            marker(line.style, self.x(end[0]), self.y(end[1])),
        )

    def marks(self, line: Line, shift: float) -> Markup:
        """Marks with their limits, joined by a line; what was not reached lies at the upper edge, with an arrow."""
        reached = [(self.x(mark.x) + shift, self.y(mark.y)) for mark in line.marks if math.isfinite(mark.y)]
        joint = "M" + "L".join(f"{plain(x)} {plain(y)}" for x, y in reached) if len(reached) > 1 else None
        look = f"s{line.style % COLOURS}"
        return element(
            "g",
            element("path", d=joint, class_=f"line thin {look} d{line.style % MARKERS}") if joint else None,
            [self._mark(mark, line.style, self.x(mark.x) + shift) for mark in line.marks],
        )

    def _mark(self, mark: Mark, style: int, x: float) -> Markup:
        low, high = self.y(mark.low), self.y(mark.high)
        cap = 3 if mark.interval else 0
        ends = f"M{plain(x - cap)} {plain(low)}h{2 * cap}M{plain(x - cap)} {plain(high)}h{2 * cap}" if cap else ""
        limits = f"M{plain(x)} {plain(low)}V{plain(high)}{ends}" if math.isfinite(mark.low) else None
        look = f"s{style % COLOURS}"
        never = element("path", d=f"M{plain(x - 4)} {plain(TOP + 5)}l4 -6l4 6", class_=f"line {look}")
        return element(
            "g",
            element("title", mark.text),
            element("path", d=limits, class_=f"limits {look}") if limits else None,
            marker(style, x, self.y(mark.y)) if math.isfinite(mark.y) else never,
        )


def straightened(points: Sequence[Point]) -> list[Point]:
    """The same line without the points that lie on it, by Ramer, Douglas & Peucker."""
    if len(points) <= 2:
        return list(points)
    (x, y), (end_x, end_y) = points[0], points[-1]
    width, height = end_x - x, end_y - y
    length = math.hypot(width, height)

    def away(index: int) -> float:
        aside, over = points[index][0] - x, points[index][1] - y
        return abs(width * over - height * aside) / length if length else math.hypot(aside, over)

    farthest = max(range(1, len(points) - 1), key=away)
    if away(farthest) < UNSEEN:
        return [points[0], points[-1]]
    return straightened(points[: farthest + 1])[:-1] + straightened(points[farthest:])


def marker(style: int, x: float, y: float) -> Markup:
    """The system's mark: shapes that differ without their colours."""
    shapes = (
        "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0",
        "M-3.5 -3.5h7v7h-7z",
        "M0 -5l4.5 8h-9z",
        "M0 -5l5 5l-5 5l-5 -5z",
        "M0 5l4.5 -8h-9z",
        "M-1.5 -4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
        "M-4 -4l1 -1l3 3l3 -3l1 1l-3 4l3 4l-1 1l-3 -3l-3 3l-1 -1l3 -4z",
    )
    return element(
        "path",
        d=shapes[style % MARKERS],
        transform=f"translate({plain(x)} {plain(y)})",
        class_=f"mark s{style % COLOURS}",
    )


def key(names: Sequence[tuple[str, int]]) -> Markup:
    """Which mark and colour is which system's."""
    return element("ul", [element("li", swatch(style), name) for name, style in names], class_="key")


def swatch(style: int) -> Markup:
    """A piece of a system's line with its mark."""
    return element(
        "svg",
        element("path", d="M1 7H27", class_=f"line s{style % COLOURS} d{style % MARKERS}"),
        marker(style, 14.0, 7.0),
        viewbox="0 0 28 14",
        class_="swatch",
        aria_hidden="true",
    )


def bar(share: float, style: int) -> Markup:
    """A bar of that share of its column, for tables."""
    inside = min(max(share, 0.0), 1.0)
    return element(
        "svg",
        element("rect", width=100, height=6, class_="trough"),
        element("rect", width=100 * inside, height=6, class_=f"mark s{style % COLOURS}"),
        viewbox="0 0 100 6",
        preserveaspectratio="none",
        class_="bar",
        aria_hidden="true",
    )
