"""Regularizers: what is added to any objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import vjp, vmap

from vae_variants.models.divergences import beside_prior, mmd, one_of, sliced, total_correlation
from vae_variants.models.divergences import diagonal as independent
from vae_variants.models.draws import Draws
from vae_variants.registry import Registry, UserError

if TYPE_CHECKING:
    from vae_variants.models.latent import EncoderDecoder

Regularizer = Callable[[Draws], Tensor]  # -> () or (B,), added to the objective's mean over the batch
REGULARIZERS: Registry[Callable[..., Tensor]] = Registry("regularizer")


@REGULARIZERS.add
def none(d: Draws) -> Tensor:
    """Nothing is added."""
    return d.t.new_zeros(())


def model_of(d: Draws) -> EncoderDecoder:
    """The model of which the draws are. Raises `UserError` if they have none."""
    if d.model is None:
        raise UserError("this regularizer needs the model's decoder, and these draws have no model; use a vae or an autoencoder")
    return d.model


def decoder(d: Draws) -> nn.Module:
    """The model's decoder."""
    return model_of(d).decoder


def decay(d: Draws, shrink: float) -> Tensor:
    """() shrink / 2 times the squared weights of the decoder."""
    return 0.5 * shrink * sum((w.square().sum() for w in decoder(d).parameters()), d.z.new_zeros(()))


@REGULARIZERS.add
def l2(d: Draws, weight: float = 1e-3, shrink: float = 0.0) -> Tensor:
    """weight / 2 |z|^2, the mean over samples: keeps the latents of a deterministic encoder near 0 (RAE, Ghosh et al. 2020, eq. 3).

    `shrink` / 2 times the squared weights of the decoder is added: RAE-L2.
    """
    value = 0.5 * weight * d.z.square().sum(-1).mean(0)
    return value + decay(d, shrink) if shrink else value


@REGULARIZERS.add(name="gradient-penalty")
def gradient_penalty(d: Draws, weight: float = 1e-3, slope: float = 1e-2) -> Tensor:
    """slope / 2 |d mean(z) / d z|^2 (Frobenius) of the decoder, plus `l2` of `weight`: RAE-GP (Ghosh et al. 2020).

    Estimated without bias by one random direction in the space of images: |J|^2 = E |v J|^2 for v ~ N(0, I).
    """
    model, z = model_of(d), d.z.flatten(0, 1)
    mean, pull, *_ = vjp(model.decode, z)
    (gradient,) = pull(torch.randn_like(mean))
    return 0.5 * slope * gradient.square().sum(-1).mean() + l2(d, weight).mean()


@REGULARIZERS.add
def spectral(d: Draws, weight: float = 1e-3, norm: float = 1e-2, iterations: int = 5) -> Tensor:
    """norm / 2 times the sum over the decoder's weight matrices of their squared spectral norms, plus `l2` of `weight`.

    It penalises what RAE-SN (Ghosh et al. 2020) fixes at 1 by spectral normalisation, in the manner of Yoshida & Miyato 2017. Norms are
    estimated from below by power iteration from a random vector; a convolution counts as the matrix of its kernel.
    """
    total = d.z.new_zeros(())
    for w in decoder(d).parameters():
        if w.dim() > 1:
            matrix = w.flatten(1)
            v = torch.randn(matrix.shape[1], dtype=w.dtype, device=w.device)
            for _ in range(iterations):
                v = F.normalize(matrix.detach().mT @ F.normalize(matrix.detach() @ v, dim=0), dim=0)
            total = total + (matrix @ v).square().sum()
    return 0.5 * norm * total + l2(d, weight).mean()


@REGULARIZERS.add
def contractive(d: Draws, weight: float = 1e-2, shrink: float = 1e-3, exact: bool = False) -> Tensor:
    """weight |d z(x) / d x|^2 (Frobenius) of the encoder at the images, z(x) the latent of x: contractive autoencoder (Rifai et al. 2011).

    It is estimated without bias by one random direction in the space of latents, |J|^2 = E |v J|^2 for v ~ N(0, I). If `exact`, it is the
    sum over all latent units, which costs as many backward passes. `shrink` / 2 times the squared weights of the decoder is added, since
    a decoder of large weights would make any z small; the paper ties the decoder's weights to the encoder's.
    """
    if d.x is None:
        raise UserError("this regularizer needs the images, and these draws have none; use a vae or an autoencoder")
    z, pull, *_ = vjp(model_of(d).encode, d.x)
    if not exact:
        (gradient,) = pull(torch.randn_like(z))
        return weight * gradient.square().sum(-1) + decay(d, shrink)
    units = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device).unsqueeze(1).expand(-1, *z.shape)
    (gradients,) = vmap(pull)(units)  # (Z, B, D)
    return weight * gradients.square().sum((0, -1)) + decay(d, shrink)


@REGULARIZERS.add
def sparse(d: Draws, weight: float = 1e-2, shrink: float = 1e-3) -> Tensor:
    """weight |z|_1, the mean over samples: latents of which few are far from 0 (Ng 2011, with an L1 norm in the place of a KL).

    `shrink` / 2 times the squared weights of the decoder is added: otherwise a decoder of large weights would make any z small.
    """
    return weight * d.z.abs().sum(-1).mean(0) + decay(d, shrink)


@REGULARIZERS.add
def tc(d: Draws, n: int, weight: float = 5.0, sampling: str = "weighted") -> Tensor:
    """weight TC(q(z)): with the ELBO, the beta-TC-VAE of beta = weight + 1 (Chen et al. 2018, appendix C).

    KL(q(z | x) || p(z)) = I(x, z) + TC + sum_j KL(q(z_j) || p(z_j)) in the mean over images, and TC = KL(q(z) || prod_j q(z_j)).
    It is estimated from the batch: by minibatch-`weighted` sampling, whose value is biased, or by `stratified` sampling.
    """
    one_of("sampling", sampling, ("weighted", "stratified"))
    return weight * total_correlation(d.z, independent(d), n, sampling == "stratified").mean(0)


@REGULARIZERS.add
def dip(d: Draws, kind: str = "i", off: float = 10.0, diagonal: float = 100.0) -> Tensor:
    """off sum_(i != j) Cov_ij^2 + diagonal sum_i (Cov_ii - 1)^2 over the batch: DIP-VAE (Kumar, Sattigeri & Balakrishnan 2018).

    Cov is the covariance of the means of q for kind `i`, and that of z, which adds the mean variance of q, for kind `ii`.
    """
    one_of("kind", kind, ("i", "ii"))
    q = independent(d)
    centred = q.mean - q.mean.mean(0)
    covariance = centred.mT @ centred / len(centred)
    if kind == "ii":
        covariance = covariance + torch.diag_embed(q.scale.square().mean(0))
    own = covariance.diagonal()
    return off * (covariance.square().sum() - own.square().sum()) + diagonal * (own - 1).square().sum()


@REGULARIZERS.add(name="mmd")
def prior_mmd(d: Draws, weight: float = 10.0, kernel: str = "imq") -> Tensor:
    """weight MMD(q(z), p(z)) between the latents of the batch and samples of the prior (WAE-MMD, Tolstikhin et al. 2018).

    `kernel` is `imq` or `rbf`, summed over seven scales. The estimate is unbiased: see `divergences.mmd`.
    """
    return weight * mmd(*beside_prior(d), kernel)


@REGULARIZERS.add(name="sliced")
def prior_sliced(d: Draws, weight: float = 10.0, directions: int = 50) -> Tensor:
    """weight times the sliced Wasserstein-2 distance, squared, between latents and samples of the prior (Kolouri et al. 2019)."""
    return weight * sliced(*beside_prior(d), directions)


prior_mmd.moves_prior = prior_sliced.moves_prior = True  # type: ignore[attr-defined]
