"""Introspective training: the encoder of a VAE is the critic of its decoder."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vae_variants.models.base import Player
from vae_variants.models.divergences import beside_prior
from vae_variants.models.draws import Draws
from vae_variants.models.networks import Shape
from vae_variants.models.objectives import OBJECTIVES, Term
from vae_variants.registry import UserError

if TYPE_CHECKING:
    from vae_variants.models.latent import EncoderDecoder


@OBJECTIVES.add(name="soft-intro-vae")
class SoftIntro(Term):
    """Encoder and decoder play a game whose payoff is the ELBO of generated images: Soft-IntroVAE (Daniel & Tamar 2021).

    With L = -log p(x | z), s = 1 / D, and F the decoder's means at z ~ q(z | x) and at z ~ p(z), half of each:

    - encoder: s (L(x) + beta KL(x)) + 1/2 E_F exp(-2 s (L(F) + `negative` KL(F)));
    - decoder: s (L(x) + E_F [beta KL(F) + `gamma` L(F)]), where L(F) has no gradient but through the last decoding.

    L(F) is counted from its value at the outputs that generated F, its least for a Gaussian or Bernoulli likelihood; the authors' squared
    error is 0 there too. `negative` = 0 stands for D / 12: on 32x32 colour images that is the authors' 256, and a nat has the same effect
    on images of any size. Means are grey, so that a Gaussian likelihood suits: an encoder that sees binary images tells means from them
    at once. The density is the VAE's.
    """

    bound = False
    players = (Player(("decoder.",), "objective.decoder_loss"),)
    regularized = ("decoder_loss",)

    def __init__(self, shape: Shape, beta: float = 1.0, negative: float = 0.0, gamma: float = 1e-8) -> None:
        super().__init__()
        self.beta, self.gamma, self.pixels = beta, gamma, math.prod(shape)
        self.negative = negative or self.pixels / 12

    def outputs(self, d: Draws) -> tuple[EncoderDecoder, Tensor]:
        """The model, and the decoder's outputs at z ~ q(z | x) and z ~ p(z), (2 K B, k D)."""
        if d.model is None or d.outputs is None:
            raise UserError("soft-intro-vae needs the model's decoder and encoder; use a vae")
        return d.model, torch.cat([d.outputs.flatten(0, 1), d.model.outputs(beside_prior(d)[1].flatten(0, 1))])

    def forward(self, d: Draws) -> Tensor:
        model, outputs = self.outputs(d)
        outputs, of = outputs.detach(), model.likelihood
        fake: Draws = model.infer(of.mean(outputs), 1, d.t)  # type: ignore[operator]
        error = of.log_prob(outputs, of.mean(outputs)) - fake.log_px.squeeze(0)
        payoff = (-2 / self.pixels * (error + self.negative * fake.kl)).exp().mean()
        return (self.beta * d.kl - d.log_px.mean(0)) / self.pixels + 0.5 * payoff

    def decoder_loss(self, d: Draws) -> Tensor:
        """What the decoder minimises, (B,)."""
        model, outputs = self.outputs(d)
        images = model.likelihood.mean(outputs)
        fake: Draws = model.infer(images, 1, d.t)  # type: ignore[operator]
        again = model.log_px(images.detach(), fake.z.detach())
        return (self.beta * fake.kl.mean() - self.gamma * again.mean() - d.log_px.mean(0)) / self.pixels
