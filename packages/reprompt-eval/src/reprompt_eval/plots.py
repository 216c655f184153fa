"""Pictures of the figures as inline SVG: lengths across are percentages, so that text keeps its size on a phone.

Each has a title and a description for those who do not see it, and each mark a title of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .figures import between, number, signed
from .markup import Markup, el, join, typeset
from .paired import Interval

__all__ = ["Axis", "differences", "scale", "slopes", "strip"]

_SLOPES_HEIGHT = 340  # px
_DIFFERENCES_HEIGHT = 220
_EDGE = 14  # px above and below the marks


@dataclass(frozen=True, slots=True)
class Axis:
    """From a value to a place across, 0..100 %."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Sequence[float]) -> "Axis":
        """With all these values on it and some room at its ends."""
        low, high = min(values), max(values)
        room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
        return cls(low - room, high + room)

    def share(self, value: float) -> float:
        """0 at the low end, 1 at the high one."""
        return (value - self.low) / (self.high - self.low)

    def across(self, value: float) -> str:
        """For x."""
        return f"{100 * self.share(value):.2f}%"

    @property
    def step(self) -> float:
        """Between two marks: 1, 2 or 5 times a power of ten."""
        least = (self.high - self.low) / 6
        size = 10.0 ** math.floor(math.log10(least))
        return next(size * m for m in (1, 2, 5, 10) if size * m >= least)

    def ticks(self) -> list[float]:
        """The marks."""
        first, last = math.ceil(self.low / self.step), math.floor(self.high / self.step)
        return [i * self.step for i in range(first, last + 1)]

    def written(self, value: float, *, sign: bool = False) -> str:
        """A mark with the decimals that it needs."""
        text = f"{value:.{max(0, -math.floor(math.log10(self.step)))}f}"
        if float(text) == 0:
            return "0"
        return typeset(text if text.startswith("-") or not sign else f"+{text}")


def strip(ci: Interval | None, value: float, axis: Axis, *, says: str, bound: float | None = None) -> Markup:
    """A value with its interval on an axis that other strips share, zero and the bound of equivalence marked."""
    y = "15"
    marks: list[Markup] = []
    if bound is not None:
        x, end = max(0.0, axis.share(-bound)), min(1.0, axis.share(bound))
        marks.append(el("rect", x=f"{100 * x:.2f}%", y="0", width=f"{100 * (end - x):.2f}%", height="30",
                        class_="bound"))  # fmt: skip
    if 0 <= axis.share(0) <= 1:
        marks.append(el("line", x1=axis.across(0), x2=axis.across(0), y1="0", y2="30", class_="zero"))
    if ci is not None:
        marks.append(el("line", x1=axis.across(ci.low), x2=axis.across(ci.high), y1=y, y2=y, class_="ci"))
    marks.append(el("circle", cx=axis.across(value), cy=y, r="5", class_="at"))
    return el("svg", el("title", says), *marks, role="img", width="100%", height="30", class_="strip")


def scale(axis: Axis) -> Markup:
    """The values under strips."""
    texts = [
        el("text", axis.written(v, sign=True), x=axis.across(v), y="14", text_anchor="middle")
        for v in axis.ticks()
        if 0.04 < axis.share(v) < 0.96
    ]
    return el("svg", *texts, width="100%", height="18", class_="scale", aria_hidden="true")


def slopes(
    pairs: Sequence[tuple[str, float, float]],
    names: tuple[str, str],
    means: tuple[tuple[float, Interval | None], tuple[float, Interval | None]],
    *,
    label: str,
) -> Markup:
    """A line for each prompt (name, first, second), and the two means with their intervals."""
    axis = Axis.around([v for _, a, b in pairs for v in (a, b)])
    left, right = "24%", "76%"

    def y(value: float) -> str:
        return f"{_EDGE + (1 - axis.share(value)) * (_SLOPES_HEIGHT - 2 * _EDGE):.1f}"

    marks: list[Markup] = []
    for tick in axis.ticks():
        marks.append(el("line", x1="0", x2="100%", y1=y(tick), y2=y(tick), class_="grid"))
        marks.append(el("text", axis.written(tick), x="0", y=f"{float(y(tick)) - 4:.1f}"))
    for name, a, b in pairs:
        way = "up" if b > a else "down" if b < a else "same"
        says = f"{name}: {names[0]} {number(a)}, {names[1]} {number(b)}, difference {signed(b - a)}"
        marks.append(el("g", el("title", says), el("line", x1=left, x2=right, y1=y(a), y2=y(b)), class_=f"slope {way}"))
    (first, first_ci), (second, second_ci) = means
    marks.append(el("line", x1=left, x2=right, y1=y(first), y2=y(second), class_="mean"))
    for x, m, ci, name in ((left, first, first_ci, names[0]), (right, second, second_ci, names[1])):
        says = f"mean of {name}: {number(m)}, 95 % CI {between(ci)}, n = {len(pairs)}"
        whisker = el("line", x1=x, x2=x, y1=y(ci.low), y2=y(ci.high), class_="whisker") if ci else None
        marks.append(el("g", el("title", says), whisker, el("circle", cx=x, cy=y(m), r="5", class_="at")))
    return _picture(marks, _SLOPES_HEIGHT, label, f"One line for each of {len(pairs)} prompts, from its score on the "
                    f"audio of {names[0]} to that on the audio of {names[1]}.", "slopes")  # fmt: skip


def differences(
    pairs: Sequence[tuple[str, float]], value: float, ci: Interval | None, *, label: str, bound: float | None = None
) -> Markup:
    """The difference of each prompt, from the lowest to the highest, with the mean and its interval."""
    ordered = sorted(pairs, key=lambda p: p[1])
    axis = Axis.around([0.0, *(d for _, d in ordered), *((ci.low, ci.high) if ci else ())])

    def y(v: float) -> float:
        return _EDGE + (1 - axis.share(v)) * (_DIFFERENCES_HEIGHT - 2 * _EDGE)

    marks: list[Markup] = []
    for tick in axis.ticks():
        marks.append(el("line", x1="0", x2="100%", y1=f"{y(tick):.1f}", y2=f"{y(tick):.1f}", class_="grid"))
        marks.append(el("text", axis.written(tick, sign=True), x="0", y=f"{y(tick) - 4:.1f}"))
    left, each = 12.0, 88.0 / len(ordered)
    if ci is not None:
        band = el("rect", x=f"{left}%", width=f"{100 - left}%", y=f"{y(ci.high):.1f}",
                  height=f"{max(y(ci.low) - y(ci.high), 1):.1f}", class_="band")  # fmt: skip
        says = f"mean difference {signed(value)}, 95 % CI {between(ci, sign=True)}, n = {len(ordered)}"
        line = el("line", x1=f"{left}%", x2="100%", y1=f"{y(value):.1f}", y2=f"{y(value):.1f}", class_="mean")
        marks.append(el("g", el("title", says), band, line))
    for i, (name, d) in enumerate(ordered):
        top, bottom = min(y(d), y(0)), max(y(d), y(0))
        bar = el("rect", x=f"{left + i * each:.3f}%", width=f"{each * 0.78:.3f}%", y=f"{top:.1f}",
                 height=f"{max(bottom - top, 1):.1f}")  # fmt: skip
        marks.append(el("g", el("title", f"{name}: {signed(d)}"), bar, class_="bar " + ("up" if d > 0 else "down")))
    marks.append(el("line", x1=f"{left}%", x2="100%", y1=f"{y(0):.1f}", y2=f"{y(0):.1f}", class_="zero"))
    describes = f"A bar for each of {len(ordered)} prompts, from the one that lost most to the one that gained most."
    return _picture(marks, _DIFFERENCES_HEIGHT, label, describes, "differences")


def _picture(marks: Sequence[Markup], height: int, title: str, describes: str, name: str) -> Markup:
    return el(
        "svg", el("title", title, id=f"{name}-title"), el("desc", describes, id=f"{name}-desc"), join(marks),
        role="img", aria_labelledby=f"{name}-title {name}-desc", width="100%", height=str(height), class_=name,
    )  # fmt: skip
