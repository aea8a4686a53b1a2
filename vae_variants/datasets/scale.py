"""What the numbers of a whole data set mean: which of them is black, which is white, and in how many levels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vae_variants.registry import UserError

PIECE = 2**18  # numbers per chunk
NEAR = 1e-6  # of rounding around 0, 1 and -1
FEW = 63  # highest number of whole levels that are kept as they are
WHITES = (255, 1023, 4095, 16383, 65535)  # of 8, 10, 12, 14 and 16 bits


class Scale(NamedTuple):
    """`black` becomes level 0 and `white` level `levels` - 1."""

    black: float
    white: float
    levels: int = 256

    def to_levels(self, x: np.ndarray) -> np.ndarray:
        """Numbers of any shape -> uint8, rounded."""
        wide = self.white - self.black
        return np.rint((x.astype(np.float64) - self.black).clip(0, wide) * (self.levels - 1) / wide).astype(np.uint8)

    def __str__(self) -> str:
        return f"read with {self.black:g} as black and {self.white:g} as white, in {self.levels} levels"


@dataclass
class Seen:
    """The range of the numbers that were added."""

    low: float = math.inf
    high: float = -math.inf
    whole: bool = True
    finite: bool = True

    def add(self, x: np.ndarray) -> None:
        """Adds an array (N, ...) of booleans, integers or floats."""
        rows = max(1, PIECE // max(1, x[:1].size))
        for part in (x[i : i + rows] for i in range(0, len(x), rows)):
            if part.dtype.kind == "f":
                self.finite = self.finite and bool(np.isfinite(part).all())
                self.whole = self.whole and self.finite and bool((part == np.rint(part)).all())
            self.low, self.high = min(self.low, float(part.min())), max(self.high, float(part.max()))

    def __str__(self) -> str:
        return f"{'whole numbers' if self.whole else 'numbers'} from {self.low:.6g} to {self.high:.6g}"

    def scale(self, what: str, beside: bool = False) -> Scale:
        """The meaning of these numbers; `beside` tells that 8-bit pictures stand beside them. Raises `UserError` if it is not clear."""
        low, high = self.low, self.high
        if not self.finite:
            raise UserError(f"{what} NaN or infinite numbers; replace them, or leave these images out")
        if beside and not self.whole:
            raise UserError(f"{what} {self}, beside 8-bit pictures, so that their white is not known; save all as 8-bit")
        if beside and low >= 0 and high <= WHITES[0]:
            return Scale(0, WHITES[0])
        if low >= -NEAR and high <= 1 + NEAR:
            return Scale(0, 1)
        if -1 - NEAR <= low <= -0.5 and high <= 1 + NEAR:
            return Scale(-1, 1)
        if self.whole and 0 <= low < high <= FEW:
            return Scale(0, high, int(high) + 1)
        if self.whole and low >= 0 and FEW < high <= WHITES[-1]:
            return Scale(0, next(white for white in WHITES if high <= white))
        if low >= 0 and WHITES[0] / 2 < high <= WHITES[0]:
            return Scale(0, WHITES[0])
        raise UserError(f"{what} {self}, whose black and white are not clear; scale them to 0 to 1, or save them as uint8")
