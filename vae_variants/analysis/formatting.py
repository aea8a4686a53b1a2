"""Numbers as text, with the digits that their interval supports."""

import math

from vae_variants.analysis.statistics import Interval

NOTHING = "–"


def number(found: Interval | None, *, scale: float = 1.0, sign: bool = False) -> str:
    """`mean ± half-width`, or the mean alone if all seeds agree; a dash for None."""
    if found is None:
        return NOTHING
    mean, half = found.mean * scale, (found.half or 0.0) * scale
    if (most := abs(mean) + half) >= 1e12 or 0 < most < 1e-6:  # more digits than anyone reads
        text = (f"{mean:+.3g}" if sign else f"{mean:.3g}") + (f" ± {half:.2g}" if half > abs(mean) * 1e-7 else "")
        return text.replace("-", "−")
    if half <= abs(mean) * 1e-7:
        exact = abs(mean) >= 1000 or float(mean).is_integer()
        half, decimals = 0.0, 0 if exact else max(0, 3 - math.floor(math.log10(abs(mean))))
    else:
        digits = 1 - math.floor(math.log10(half))
        decimals = min(8, max(0, digits))
        if digits < 0:
            mean, half = round(mean, digits), round(half, digits)
    text = f"{mean:+,.{decimals}f}" if sign else f"{mean:,.{decimals}f}"
    text = text.replace("-", "−") + (f" ± {half:,.{decimals}f}" if half else "")
    return text.replace(",", " ")


def grouped(count: int) -> str:
    """A count with a space between thousands."""
    return f"{count:,}".replace(",", " ")


def short(value: object) -> str:
    """A value of a configuration as a selector spells it."""
    return "-".join(map(str, value)) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)
