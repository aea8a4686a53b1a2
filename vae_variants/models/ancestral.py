"""Ancestral sampling of binary pixels from an autoregressive network, each unit of it evaluated once for an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["BLOCK", "ancestral"]

BLOCK = 32  # pixels: what they have in common of earlier ones is one matrix product


@torch.no_grad()
def ancestral(weights: Sequence[Tensor], biases: Sequence[Tensor], ready: Sequence[Sequence[int]], u: Tensor) -> Tensor:
    """Pixels x_i = [u_i < sigmoid(logit_i(x_1 .. x_{i-1}))] of a masked network from uniforms u: (B, D) -> (B, D), in the order of drawing.

    `weights` and `biases` are those of its layers, (out, in) and (out,), masks applied, the first layer's inputs and the last one's outputs
    in the order of drawing. Between layers are ReLUs. Units of a hidden layer are sorted by the pixels that they see: `ready[l][i]` is how
    many of the hidden layer l see none but the first i, for i = 0 .. D. Without hidden layers the network is a logistic autoregression.

    Whole passes for each pixel take O(D) times the multiply-adds of one pass; this takes those of one, most of them in products of
    `BLOCK` pixels.
    """
    dim = u.shape[1]
    counts = [range(dim + 1), *ready]  # of each layer that others read: pixels, then hidden ones
    values = [u.new_zeros(count[-1], len(u)) for count in counts]  # (units, B): rows lie side by side in memory
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
