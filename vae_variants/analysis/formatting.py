"""Figures as text: with as many digits as their interval gives a meaning."""

from __future__ import annotations

import math

from vae_variants.analysis.statistics import Interval

__all__ = ["NOTHING", "grouped", "number", "short"]

NOTHING = "–"


def number(found: Interval | None, *, scale: float = 1.0, sign: bool = False) -> str:
    """`mean ± half-width`, as many digits as the interval has meaning for; a dash for nothing."""
    if found is None:
        return NOTHING
    mean, half = found.mean * scale, None if found.half is None else found.half * scale
    if not half or half <= abs(mean) * 1e-7:
        size = abs(mean)
        decimals = 0 if size >= 1000 or float(mean).is_integer() else max(0, 3 - math.floor(math.log10(size))) if size > 0 else 0
    else:
        digits = 1 - math.floor(math.log10(half))
        decimals = min(8, max(0, digits))
        if digits < 0:  # no digit that the interval makes meaningless
            mean, half = round(mean, digits), round(half, digits)
    text = f"{mean:+,.{decimals}f}" if sign else f"{mean:,.{decimals}f}"
    text = text.replace("-", "−").replace(",", " ")
    return text if not half or half <= abs(mean) * 1e-7 else f"{text} ± {half:,.{decimals}f}".replace(",", " ")


def grouped(count: int) -> str:
    """A count with a space between thousands."""
    return f"{count:,}".replace(",", " ")


def short(value: object) -> str:
    """A value of a configuration, as a selector would spell it."""
    return "-".join(map(str, value)) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)
