"""Faster and safer forms of PyTorch functions, with the same accuracy."""

import math
from typing import Any

import torch
from torch import Tensor, nn


def chosen(p: Tensor, n: int) -> Tensor:
    """n indices (..., n) drawn with probabilities p (..., C).

    Those of a seed that has diverged are NaN, for which torch raises an error that would end all seeds of its stack. They count as equal:
    what the seed's parameters say of any index is NaN.
    """
    return torch.multinomial(p.nan_to_num(1.0), n, replacement=True)


def log(value: Any) -> Any:
    """The logarithm of an option. Where the members of a stack differ in it, it is a tensor (), and so is the result."""
    return value.log() if isinstance(value, Tensor) else math.log(value)


def slowdown(pixels: int) -> float:
    """By how much the default learning rate is smaller for images of so many numbers than for those of 64, the digits'."""
    return max(1.0, math.cbrt(pixels / 64))


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


class _SiLU(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * x.sigmoid()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG004  (the names are torch's)
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        s = x.sigmoid()
        return torch.addcmul(s, x * s, 1 - s) * gradients[0]


class SiLU(nn.Module):
    """x sigmoid(x). Torch's own has in-place operations in its derivative, which keep a traced step from being simplified."""

    def forward(self, x: Tensor) -> Tensor:
        return _SiLU.apply(x) if torch.is_grad_enabled() else x * x.sigmoid()
