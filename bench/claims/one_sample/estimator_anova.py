"""Gradients of single images from single sets of draws, and how their variance divides into that of draws and that of images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from vae_variants.models.objectives import Objective
from vae_variants.models.vae import VAE

__all__ = ["Anova", "Parts", "best_draws", "multiply_adds", "nested", "per_sample"]

NUMBERS = 2**24  # in the gradients that are held at once: 64 MiB in float32


class Parts(NamedTuple):
    """Of a network's gradient: the variance of draws and of images, summed over its parameters (traces), and signal over noise.

    With g_ik the gradient of image i from its k-th set of draws, n1 images and n2 sets: within is Sigma_w = E_i Var_k g_ik, between
    Sigma_b = Var_i E_k g_ik. All are unbiased, and may
    therefore be below 0 where there is next to nothing.
    """

    within: float
    between: float
    signal: float  # |E_ik g_ik|^2
    squared_ratio: float | None  # E_i |E_k g_ik|^2 / Sigma_w: squared SNR of an image's gradient, whose noise is that of draws alone
    parameter_ratio: float | None  # mean over parameters of the same ratio, of those that have noise

    @property
    def ratio(self) -> float | None:
        """r = Sigma_w / Sigma_b; None where so few images cannot tell Sigma_b from 0."""
        return self.within / self.between if self.between > 0 else None

    @property
    def snr(self) -> float | None:
        return None if self.squared_ratio is None else math.sqrt(max(self.squared_ratio, 0.0))

    def batch_ratio(self, b: int) -> float:
        """|mean| / sqrt(trace of variance) of the gradient of a minibatch of b images, (Sigma_b + Sigma_w) / b."""
        return math.sqrt(max(self.signal, 0.0) * b / (self.between + self.within))

    def batch_cosine(self, b: int) -> float | None:
        """Between the gradient of b images from one set of draws, g_1, and that of the same images from endless ones, g_inf.

        E<g_1, g_inf> / sqrt(E|g_1|^2 E|g_inf|^2) = sqrt(E|g_inf|^2 / E|g_1|^2), since the mean of g_1 given the images is g_inf, with
        E|g_inf|^2 = |mean|^2 + Sigma_b / b and E|g_1|^2 = E|g_inf|^2 + Sigma_w / b. None where it is lost in the noise.
        """
        endless = self.signal + self.between / b
        return math.sqrt(endless / (endless + self.within / b)) if endless > 0 else None


class Anova:
    """Streaming moments of gradients, (images, n2, ...) by name of parameter; one number in float64 per parameter is held thrice."""

    def __init__(self) -> None:
        self.images = self.draws = 0
        self.mean: dict[str, Tensor] = {}
        self.square: dict[str, Tensor] = {}  # of the images' means
        self.within: dict[str, Tensor] = {}

    def add(self, gradients: Mapping[str, Tensor]) -> None:
        """More images. Raises ValueError for fewer than two sets of draws."""
        for name, g in gradients.items():
            n, self.draws = g.shape[:2]
            if self.draws < 2:
                raise ValueError("a variance of draws takes two sets of them")
            near = g.mean(1)  # in the gradient's own precision, since sums that convert are many times slower; mended by the next line
            centred = g - near.unsqueeze(1)
            rest = centred.mean(1).double()
            mean = near.double() + rest
            within = (centred.square_().sum(1).double() - self.draws * rest.square()) / (self.draws - 1)
            for total, new in ((self.mean, mean), (self.square, mean.square()), (self.within, within)):
                total[name] = total[name] + new.sum(0) if name in total else new.sum(0)
        self.images += n

    def parts(self, choice: Mapping[str, slice]) -> Parts:
        """Of the parameters named in `choice`, and of each the rows of its slice."""
        mean, square, within = (
            torch.cat([torch.atleast_1d(total[name])[rows].flatten() for name, rows in choice.items()]) / self.images
            for total in (self.mean, self.square, self.within)
        )
        n1, n2 = self.images, self.draws
        between = (square - mean.square()) * n1 / (n1 - 1) - within / n2
        signal = square - within / n2  # E_i of the squared mean over draws, by parameter
        noisy = within > 0
        ratio = (signal[noisy].clamp(min=0) / within[noisy]).sqrt()
        total = within.sum().item()
        return Parts(
            within=total,
            between=between.sum().item(),
            signal=(mean.square() - (between + within / n2) / n1).sum().item(),
            squared_ratio=signal.sum().item() / total if total > 0 else None,
            parameter_ratio=ratio.mean().item() if len(ratio) else None,
        )


def networks(model: VAE) -> dict[str, dict[str, slice]]:
    """Encoder, decoder (with the likelihood's own parameters), both, and the rows of the encoder's last layer that give log s."""
    names = [name for name, _ in model.named_parameters()]
    encoder = [name for name in names if name.startswith("encoder.")]
    last = encoder[-1].rpartition(".")[0] + "."
    return {
        "encoder": {name: slice(None) for name in encoder},
        "decoder": {name: slice(None) for name in names if name not in encoder},
        "both": {name: slice(None) for name in names},
        "log-scale head": {name: slice(model.latent, None) for name in encoder if name.startswith(last)},
    }


def per_sample(model: VAE, objective: Objective, x: Tensor, k: int, n2: int) -> Iterator[dict[str, Tensor]]:
    """Gradients of `objective` from k draws, n2 times for each of x (N, D): name -> (images, n2, ...), some images at a time."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    t = x.new_ones(())

    def loss(p: dict[str, Tensor], image: Tensor) -> Tensor:
        return objective(functional_call(model, p, ("infer", image[None], k, t))).squeeze(0)

    each = vmap(grad(loss), in_dims=(None, 0), randomness="different")
    numbers = sum(p.numel() for p in parameters.values()) + 3 * k * x.shape[-1]
    for part in x.split(max(1, NUMBERS // (numbers * n2))):
        found = each(parameters, part.repeat_interleave(n2, 0))
        yield {name: g.unflatten(0, (len(part), n2)) for name, g in found.items()}


def nested(model: VAE, objective: Objective, x: Tensor, k: int, n2: int) -> dict[str, Parts]:
    """network -> its parts, from the n1 images of x (n1, D) with n2 sets of k draws each."""
    anova = Anova()
    for gradients in per_sample(model, objective, x, k, n2):
        anova.add(gradients)
    return {network: anova.parts(choice) for network, choice in networks(model).items()}


def multiply_adds(network: nn.Module) -> int:
    """Of one forward pass of fully connected layers: the number of their weights."""
    return sum(p.numel() for p in network.parameters() if p.ndim > 1)


def best_draws(ratio: float, encoder: int, decoder: int) -> float:
    """K* = sqrt(r c_enc / c_dec), where (Sigma_b + Sigma_w / K) (c_enc + K c_dec), variance times cost, is least.

    One draw is better than two exactly where K* < sqrt(2).
    """
    return math.sqrt(max(ratio, 0.0) * encoder / decoder)
