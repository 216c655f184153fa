"""Figures as text: never one without what it stands on."""

from .paired import Interval, Mean

__all__ = ["between", "count", "level", "mean", "number", "p_value", "percent", "percents", "signed", "whole"]


def number(value: float, digits: int = 4) -> str:
    """With four decimals where it is small, as scores are, else with fewer."""
    size = abs(value)
    decimals = digits if size < 10 else max(0, digits - len(str(int(size))))
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def signed(value: float, digits: int = 4) -> str:
    """With its sign, but for zero."""
    text = number(value, digits)
    return text if text.startswith("-") or float(text) == 0 else f"+{text}"


def between(ci: Interval | None, digits: int = 4, *, sign: bool = False) -> str:
    """The two ends of an interval."""
    if ci is None:
        return "no interval"
    shown = signed if sign else number
    return f"{shown(ci.low, digits)} to {shown(ci.high, digits)}"


def level(ci: Interval) -> str:
    """95 % CI."""
    return f"{ci.level * 100:.0f} % CI"


def percent(value: float) -> str:
    """A share."""
    return f"{value * 100:.0f} %"


def percents(ci: Interval) -> str:
    """The two ends of the interval of a share."""
    return f"{ci.low * 100:.0f} to {percent(ci.high)}"


def whole(value: float, ci: Interval | None, n: int, digits: int = 4, *, sign: bool = False) -> str:
    """The value with its interval and its n."""
    shown = signed if sign else number
    interval = f"{level(ci)} {between(ci, digits, sign=sign)}" if ci else "no interval"
    return f"{shown(value, digits)} ({interval}, n = {n})"


def mean(m: Mean, digits: int = 4) -> str:
    """A mean with its interval and its n."""
    return whole(m.mean, m.ci, m.n, digits)


def p_value(p: float | None) -> str:
    """p = .042, or p < .001."""
    if p is None:
        return "p not computed"
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".", 1)


def count(n: int, one: str, many: str = "") -> str:
    """1 prompt, 2 prompts."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
