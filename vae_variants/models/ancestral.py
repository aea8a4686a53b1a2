"""Ancestral sampling of binary pixels from an autoregressive network, with one evaluation of each unit per image."""

from collections.abc import Sequence

import torch
from torch import Tensor

BLOCK = 32  # pixels per matrix product


@torch.no_grad()
def ancestral(weights: Sequence[Tensor], biases: Sequence[Tensor], ready: Sequence[Sequence[int]], u: Tensor) -> Tensor:
    """Samples pixels x_i = [u_i < sigmoid(logit_i(x_1 .. x_{i-1}))] of a masked network, in the order of sampling.

    Without hidden layers the network is a logistic autoregression; between layers are ReLUs. The cost is that of one pass, mostly in matrix
    products of `BLOCK` pixels, instead of one pass per pixel.

    Args:
        weights, biases: (out, in) and (out,) of each layer, masks applied; pixels in the order of sampling, hidden units sorted by the
            pixels that they see.
        ready: `ready[l][i]` is the number of units of hidden layer l that see only the first i pixels, for i = 0 .. D.
        u: (B, D) uniform numbers.

    Returns:
        (B, D) pixels in {0, 1}.
    """
    dim = u.shape[1]
    counts = [range(dim + 1), *ready]  # of pixels, then of each hidden layer
    values = [u.new_zeros(count[-1], len(u)) for count in counts]  # (units, B): rows are contiguous
    uniform = u.mT.contiguous()
    for start in range(0, dim, BLOCK):
        end = min(start + BLOCK, dim)
        before = [count[start] for count in counts]
        rows = [slice(count[start], count[end]) for count in counts[1:]] + [slice(start, end)]
        common = [torch.addmm(b[r, None], w[r, :n], v[:n]) for w, b, r, n, v in zip(weights, biases, rows, before, values, strict=True)]
        for i in range(start, end):
            n, until = before[-1], counts[-1][i]
            logit = common[-1][i - start]
            if until > n:
                logit = logit + weights[-1][i, n:until] @ values[-1][n:until]
            values[0][i] = uniform[i] < logit.sigmoid()
            for layer in range(len(ready)):
                new = slice(counts[layer + 1][i], counts[layer + 1][i + 1])
                if new.start < new.stop:
                    n, until = before[layer], counts[layer][i + 1]
                    inside = weights[layer][new, n:until] @ values[layer][n:until]
                    values[layer + 1][new] = (common[layer][new.start - rows[layer].start : new.stop - rows[layer].start] + inside).relu()
    return values[0].mT.contiguous()
