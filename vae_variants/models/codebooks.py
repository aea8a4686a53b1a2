"""Quantizers whose codebook is learnt: by its gradient, by moving averages, or by Gumbel-softmax."""

import torch
from torch import Tensor, nn

from vae_variants.models.priors import chosen_at_random
from vae_variants.models.quantizers import QUANTIZERS, Quantized, Quantizer, one_hot, straight_through
from vae_variants.models.relaxed import gumbel

LEAST = 1e-6  # images of a code by its moving average: below, an unused code stays as it is


def distances(h: Tensor, codebook: Tensor) -> Tensor:
    """Squared distances of h (..., W) from each code (C, W), less |h|^2: (..., C)."""
    return codebook.square().sum(-1) - 2 * h @ codebook.mT


class Codebooks(Quantizer):
    """Base class of quantizers that take, at each level, the code nearest to what the levels above have left."""

    def indices(self, h: Tensor) -> Tensor:
        return self.refined(h)[0]

    def refined(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """h (..., P, W) -> symbols (..., P, depth), what is left above each level and the code there, both (..., P, depth, W)."""
        chosen, left, codes = [], [h], list[Tensor]()
        for codebook in self.table():
            index = distances(left[-1], codebook).argmin(-1)
            chosen.append(index)
            codes.append(codebook[index])
            left.append(left[-1] - codes[-1])
        return torch.stack(chosen, -1), torch.stack(left[:-1], -2), torch.stack(codes, -2)


class NearestCode(Codebooks):
    """Base class of VQ with one level or several, with a codebook of `codes` vectors of `width` numbers for each."""

    sizes: Tensor
    sums: Tensor

    def __init__(self, depth: int, codes: int, width: int, commitment: float, ema: bool, memory: float, restart: float) -> None:
        super().__init__()
        self.depth, self.codes, self.width = depth, codes, width
        self.commitment, self.ema, self.memory, self.restart = commitment, ema, memory, restart
        start = torch.empty(depth, codes, width).uniform_(-1 / codes, 1 / codes)
        if ema:
            self.register_buffer("sizes", torch.ones(depth, codes))
            self.register_buffer("sums", start)
        else:
            self.codebook = nn.Parameter(start)

    def table(self) -> Tensor:
        return self.sums / self.sizes.unsqueeze(-1) if self.ema else self.codebook

    @torch.no_grad()
    def initialise(self, h: Tensor) -> None:
        """Each codebook is so many vectors of training images, chosen at random, less the codes above."""
        own, left = self.sums if self.ema else self.codebook, h.flatten(0, -2)
        for codebook in own:
            codebook.copy_(chosen_at_random(left, self.codes))
            left = left - codebook[distances(left, codebook).argmin(-1)]

    def forward(self, h: Tensor, t: Tensor) -> Quantized:
        index, left, codes = self.refined(h.detach())
        code = codes.sum(-2)
        still = h.unsqueeze(-2) - (codes.detach().cumsum(-2) - codes.detach())  # what is left, with the encoder's gradient
        loss = self.commitment * (still - codes.detach()).square().sum((-1, -2)).mean(-1)
        if not self.ema:
            loss = loss + (left.detach() - codes).square().sum((-1, -2)).mean(-1)
        elif self.training:
            self.move(left.flatten(0, 1), index.flatten(0, 1))
        return Quantized(straight_through(h, code), loss)

    @torch.no_grad()
    def move(self, rows: Tensor, index: Tensor) -> None:
        """Moves sizes and sums towards those of a batch, rows (N, depth, W) with codes (N, depth), and restarts codes that nobody uses.

        N_i <- g N_i + (1 - g) n_i, m_i <- g m_i + (1 - g) sum of the rows of code i, e_i = m_i / N_i (van den Oord et al. 2017, appendix).
        """
        usual = rows.shape[0] / self.codes
        rows = rows.movedim(1, 0)  # (depth, N, W)
        owner = one_hot(index.movedim(1, 0), self.codes, rows)  # (depth, N, C)
        n, sums = owner.sum(-2), owner.mT @ rows
        keep = torch.where((n == 0) & (self.sizes < LEAST), 1.0, self.memory).to(rows.dtype)
        sizes = keep * self.sizes + (1 - self.memory) * n
        sums = keep.unsqueeze(-1) * self.sums + (1 - self.memory) * sums
        if self.restart > 0:
            dead = sizes < self.restart * usual
            place = (torch.rand(sizes.shape, dtype=rows.dtype, device=rows.device) * rows.shape[1]).long().clamp(max=rows.shape[1] - 1)
            fresh = usual * rows.gather(1, place.unsqueeze(-1).expand(-1, -1, rows.shape[-1]))
            sizes, sums = torch.where(dead, usual, sizes), torch.where(dead.unsqueeze(-1), fresh, sums)
        self.sizes.copy_(sizes)
        self.sums.copy_(sums)


@QUANTIZERS.add(name="vq")
class VectorQuantizer(NearestCode):
    """The nearest of `codes` vectors of `width` numbers: VQ (van den Oord, Vinyals & Kavukcuoglu 2017, arXiv:1711.00937).

    Added is |sg[h] - e|^2 + `commitment` |h - sg[e]|^2 for a vector h and its code e, the mean over positions. If `ema`, the codebook has
    no gradient: it follows the mean vectors of its codes by moving averages that keep the share `memory`. A code that is used less than
    `restart` times the mean use of a code begins anew at a vector of the batch; 0: never. Codes start at vectors of training images.
    """

    def __init__(
        self,
        *,
        codes: int = 64,
        width: int = 8,
        commitment: float = 0.25,
        ema: bool = False,
        memory: float = 0.99,
        restart: float = 0.03,
    ) -> None:
        super().__init__(1, codes, width, commitment, ema, memory, restart)


@QUANTIZERS.add(name="residual")
class ResidualQuantizer(NearestCode):
    """VQ in `depth` levels, each with a codebook for what the levels above have left (RVQ, Lee et al. 2022, arXiv:2203.01941).

    The losses of `vq` are added over the levels. One level is `vq`. Lee et al. share one codebook between levels; here each has its own,
    as in SoundStream (Zeghidour et al. 2021, arXiv:2107.03312).
    """

    def __init__(
        self,
        *,
        depth: int = 3,
        codes: int = 16,
        width: int = 8,
        commitment: float = 0.25,
        ema: bool = True,
        memory: float = 0.99,
        restart: float = 0.03,
    ) -> None:
        super().__init__(depth, codes, width, commitment, ema, memory, restart)


@QUANTIZERS.add(name="hrq")
class HierarchicalQuantizer(Codebooks):
    """Levels of ever finer codes, selected by Gumbel-softmax in training: HRQ-VAE (Hosking, Tang & Lapata 2022, arXiv:2203.03463).

    q_l(c | h) is proportional to exp(-|r - e_c|^2), with r what the levels above have left. In training each level draws a one-hot vector
    by straight-through Gumbel-softmax, and is dropped, with those below it, with probability `dropout`. The temperature falls as
    exp(-`annealing` t / 1.5^l), l = 0, 1, ..., but not below `temperature`. After training each level takes the nearest code.

    Added are `kl` sum_l KL(q_l || uniform) and `norm` (max(`ratio` |e_l| / |e_(l-1)|, 1) - 1)^2, the mean over positions, and over levels
    for the latter. Codes of level l start on the sphere of radius `scale` 2^-l.
    """

    def __init__(
        self,
        *,
        depth: int = 3,
        codes: int = 16,
        width: int = 8,
        kl: float = 0.1,
        norm: float = 0.5,
        ratio: float = 1.5,
        dropout: float = 0.1,
        temperature: float = 0.5,
        annealing: float = 3.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.depth, self.codes, self.width = depth, codes, width
        self.kl, self.norm, self.ratio, self.dropout = kl, norm, ratio, dropout
        self.temperature, self.annealing = temperature, annealing
        start = nn.functional.normalize(torch.randn(depth, codes, width), dim=-1)
        self.codebook = nn.Parameter(start * scale * 0.5 ** torch.arange(depth)[:, None, None])

    def table(self) -> Tensor:
        return self.codebook

    def forward(self, h: Tensor, t: Tensor) -> Quantized:
        left, codes, kl = h, list[Tensor](), h.new_zeros(h.shape[:-1])
        for level, codebook in enumerate(self.codebook):
            logits = -distances(left, codebook)
            log_q = logits.log_softmax(-1)
            kl = kl + (log_q.exp() * log_q).sum(-1) + torch.tensor(float(self.codes)).log()
            heat = (-self.annealing * t / 1.5**level).exp().clamp(min=self.temperature)
            codes.append(self.chosen(logits, heat) @ codebook)
            left = left - codes[-1]
        z = torch.stack(codes, -2)  # (B, P, depth, W)
        loss = (self.kl * kl + self.norm * self.disorder(z)).mean(-1)
        if self.training and self.dropout > 0:
            kept = torch.rand(z.shape[:-1], dtype=z.dtype, device=z.device) >= self.dropout
            z = z * kept.to(z.dtype).cumprod(-1).unsqueeze(-1)
        return Quantized(z.sum(-2), loss)

    def chosen(self, logits: Tensor, heat: Tensor) -> Tensor:
        """One-hot vectors (..., C): samples with the gradient of a softmax in training, else the largest."""
        if not self.training:
            return one_hot(logits.argmax(-1), self.codes, logits)
        soft = ((logits + gumbel(logits)) / heat).softmax(-1)
        return straight_through(soft, one_hot(soft.argmax(-1), self.codes, logits))

    def disorder(self, z: Tensor) -> Tensor:
        """By how much the codes z (..., depth, W) do not become smaller by `ratio` from level to level: (...)."""
        if self.depth == 1:
            return z.new_zeros(z.shape[:-2])
        length = (z.square().sum(-1) + torch.finfo(z.dtype).tiny).sqrt()
        ratio = self.ratio * length[..., 1:] / length[..., :-1].clamp(min=LEAST)
        return (ratio.clamp(min=1) - 1).square().mean(-1)
