"""Quantizers: how the encoder's vectors become codes of a finite set, and those without a codebook that is learnt."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_variants.registry import Registry, UserError, positive

MOST_BITS = 16


class Quantized(NamedTuple):
    """What a quantizer makes of the encoder's vectors in training.

    Attributes:
        z: (B, P, W) the code vectors that the decoder is given; their gradient reaches the encoder.
        loss: (B,) what is added to -log p(x | z).
    """

    z: Tensor
    loss: Tensor


def straight_through(h: Tensor, code: Tensor) -> Tensor:
    """`code`, whose gradient passes to `h` unchanged."""
    return h + (code - h).detach()


def one_hot(index: Tensor, categories: int, like: Tensor) -> Tensor:
    """Indices (...) -> (..., categories), with the type of `like`."""
    return (index.unsqueeze(-1) == torch.arange(categories, device=index.device)).to(like.dtype)


class Quantizer(nn.Module, ABC):
    """Base class of quantizers. A constructor takes keyword options with defaults.

    At each of P positions the encoder gives a vector of W numbers. Its code is `depth` symbols, each an index of `codes` vectors of W
    numbers; the decoder is given the sum of these vectors.

    Attributes:
        width: W.
        codes: C, the size of the alphabet of each symbol.
        depth: Symbols at a position.
    """

    width: int
    codes: int
    depth: int = 1

    @abstractmethod
    def table(self) -> Tensor:
        """The code vectors (depth, C, W)."""

    @abstractmethod
    def indices(self, h: Tensor) -> Tensor:
        """h (..., P, W) -> symbols (..., P, depth), integers from 0 to C - 1."""

    @abstractmethod
    def forward(self, h: Tensor, t: Tensor) -> Quantized:
        """h (B, P, W), at the fraction t () of training. Buffers may change, in place."""

    def lookup(self, indices: Tensor) -> Tensor:
        """Symbols (..., P, depth) -> their vectors (..., P, depth, W)."""
        return torch.stack([self.table()[level][indices[..., level]] for level in range(self.depth)], -2)

    @torch.no_grad()
    def initialise(self, h: Tensor) -> None:
        """Takes from the encoder's vectors h (N, P, W) of training images what it needs; by default nothing."""


QUANTIZERS: Registry[type[Quantizer]] = Registry("quantizer")


@QUANTIZERS.add(name="fsq")
class FiniteScalar(Quantizer):
    """Each number is bounded and rounded to one of so many levels as `grid` says: FSQ (Mentzer et al. 2024, arXiv:2309.15505).

    round(f(h)) with f(h) = (L - 1) (1 - 1/1000) / 2 tanh(h + s) - o; o = 0 and s = 0 if L is odd, else o = 1/2 and s moves f(0) near 0
    (the paper's appendix A.1). A code is divided by floor(L / 2). Its index is the number whose digits are the rounded numbers, the first
    number counting ones. Gradients pass the rounding unchanged. There is no codebook to learn, and no further loss.

    Raises:
        UserError: If a number has one level.
    """

    base: Tensor
    place: Tensor
    reach: Tensor
    offset: Tensor
    shift: Tensor
    vectors: Tensor

    def __init__(self, *, grid: Sequence[int] = (8, 6, 5)) -> None:
        super().__init__()
        if min(grid) < 2:
            raise UserError(f"grid={'-'.join(map(str, grid))} has a number of one level, which says nothing; write grid=8-6-5")
        base = torch.tensor(list(grid))
        self.width, self.codes = len(base), int(base.prod())
        place = torch.cat([base.new_ones(1), base.cumprod(0)[:-1]])
        half = (base.float() - 1) * (1 - 1e-3) / 2
        offset = torch.where(base % 2 == 1, 0.0, 0.5)
        digits = torch.arange(self.codes)[:, None] // place % base
        vectors = (digits - base // 2) / (base // 2)
        kept = {"base": base, "place": place, "reach": half, "offset": offset, "shift": (offset / half).tan(), "vectors": vectors[None]}
        for name, tensor in kept.items():
            self.register_buffer(name, tensor, persistent=False)

    def table(self) -> Tensor:
        return self.vectors

    def bounded(self, h: Tensor) -> Tensor:
        """f(h), which rounds to L integers."""
        return self.reach * torch.tanh(h + self.shift) - self.offset

    def indices(self, h: Tensor) -> Tensor:
        digits = self.bounded(h).round().long() + self.base // 2
        digits = torch.minimum(digits.clamp(min=0), self.base - 1)  # of a seed that has diverged, too: NaN is no integer
        return (digits * self.place).sum(-1, keepdim=True)

    def forward(self, h: Tensor, t: Tensor) -> Quantized:
        bounded = self.bounded(h)
        z = straight_through(bounded, bounded.round()) / (self.base // 2)
        return Quantized(z, h.new_zeros(h.shape[0]))


@QUANTIZERS.add(name="lfq")
class LookupFree(Quantizer):
    """The sign of each of `bits` numbers: LFQ (Yu et al. 2024, arXiv:2310.05737).

    A code is a vector of -1 and 1. Its index has bit i where number i is positive. Gradients pass the sign unchanged.

    Added are `commitment` |h - sg[code]|^2, the mean over positions, and `entropy` (E H(q) - `diversity` H(E q)) in nats, in which
    q(c | h) is proportional to exp(-|h - c|^2 / `temperature`) over all 2^bits codes c, and E is the mean over positions and the batch:
    a code is sure for each image, and all codes are used. The published version weighs both entropies alike.

    Raises:
        UserError: If there are more than 2^16 codes, which the entropy sums over.
    """

    vectors: Tensor

    def __init__(
        self,
        *,
        bits: int = 6,
        commitment: float = 0.25,
        entropy: float = 0.1,
        diversity: float = 1.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if bits > MOST_BITS:
            raise UserError(f"bits={bits} are too many codes to sum over; write bits={MOST_BITS} or fewer, and more positions")
        self.width, self.codes = bits, 2**bits
        self.commitment, self.entropy, self.diversity = commitment, entropy, diversity
        self.temperature = positive("temperature", temperature)
        vectors = 2.0 * (torch.arange(self.codes)[:, None] // 2 ** torch.arange(bits) % 2) - 1
        self.register_buffer("vectors", vectors[None], persistent=False)

    def table(self) -> Tensor:
        return self.vectors

    def indices(self, h: Tensor) -> Tensor:
        return ((h > 0) * 2 ** torch.arange(self.width, device=h.device)).sum(-1, keepdim=True)

    def forward(self, h: Tensor, t: Tensor) -> Quantized:
        code = torch.where(h > 0, 1.0, -1.0).to(h.dtype)
        own = self.commitment * (h - code).square().sum(-1).mean(-1)
        sure, used = self.entropies(h)
        return Quantized(straight_through(h, code), own + self.entropy * (sure - self.diversity * used))

    def entropies(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """E H(q(c | h)) and H(E q(c | h)) in nats; q is a product over bits, and its mean is not."""
        logits = 4 * h.flatten(0, -2) / self.temperature  # |h + 1|^2 - |h - 1|^2 = 4 h
        log_p = torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)], -1)
        sure = -(log_p.exp() * log_p).sum((-1, -2)).mean()
        on = (self.vectors[0] > 0).to(h.dtype)  # (C, bits)
        mean = (log_p[..., 1] @ on.mT + log_p[..., 0] @ (1 - on).mT).exp().mean(0)
        return sure, -(mean * mean.clamp(min=torch.finfo(mean.dtype).tiny).log()).sum()
