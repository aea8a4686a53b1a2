"""A likelihood: p(x | h), the density of pixels x given the decoder's output h.

The logistic density is a worked example: put your own density in its place, in `log_prob`, `sample` and `mean`.
"""

import math

import torch

from vae_variants import LIKELIHOODS, Likelihood, Support


@LIKELIHOODS.add  # the name of the class, in kebab case, is its name in a selector
class Template(Likelihood):
    """Logistic density of scale `s` around the decoder's output."""  # what `vae-variants list likelihoods` shows

    support = Support.REAL  # where the density lives: REAL, UNIT = [0, 1], BYTE = stored grey levels, BINARY = {0, 1}
    k = 1  # outputs of the decoder for each pixel; with more, h.unflatten(-1, (-1, k)) has those of a pixel side by side

    def __init__(self, s: float = 0.1) -> None:  # options have defaults: vae[likelihood=...,s=0.05|0.1] sets them
        super().__init__()
        self.s = s  # learnt: self.log_s = torch.nn.Parameter(torch.zeros(()))

    def log_prob(self, h, x):
        """(..., k * D), (..., D) -> (...,) nats, with every constant, summed over pixels."""
        u = (x - h) / self.s
        return (-u - 2 * torch.nn.functional.softplus(-u) - math.log(self.s)).sum(-1)

    def sample(self, h):
        """(..., k * D) -> (..., D) sampled from that density."""
        u = torch.rand_like(h).clamp(1e-6, 1 - 1e-6)
        return h + self.s * torch.logit(u)

    def mean(self, h):
        """(..., k * D) -> (..., D) its expectation."""
        return h
