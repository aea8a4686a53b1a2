"""Faster forms of PyTorch functions, with the same accuracy."""

from typing import Any

import torch
from torch import Tensor


class _CrossEntropy(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(h: Tensor, x: Tensor) -> Tensor:
        return torch.addcmul((h.abs().neg().exp() + 1).log() + h.relu(), h, x, value=-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004  (the names are torch's)
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None]:
        h, x = ctx.saved_tensors
        return (h.sigmoid() - x) * gradients[0], -h * gradients[0] if ctx.needs_input_grad[1] else None


def cross_entropy(h: Tensor, x: Tensor) -> Tensor:
    """log(1 + e^h) - x h = max(h, 0) + log(1 + e^-|h|) - x h, elementwise: -log of a Bernoulli probability with logit h.

    Its derivative is sigmoid(h) - x, also at 0. The absolute error equals that of torch's version, which uses the slower log1p. A sum over
    pixels needs a small absolute error, not the small relative error of log1p near 0.
    """
    return _CrossEntropy.apply(*torch.broadcast_tensors(h, x))
