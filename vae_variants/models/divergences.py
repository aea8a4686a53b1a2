"""How far the latents of a batch are from samples of the prior, or from independent units: functions of samples."""

import torch
from torch import Tensor

from vae_variants.models.base import Generative
from vae_variants.models.draws import Draws
from vae_variants.models.posteriors import C, Diagonal
from vae_variants.registry import UserError, closest

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the kernels, which are summed (Tolstikhin et al. 2018)


def one_of(option: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises `UserError` unless an option has one of its values."""
    if value not in choices:
        raise UserError(closest(option, value, choices))


def beside_prior(d: Draws) -> tuple[Tensor, Tensor]:
    """The K samples z of B images, and as many samples of the prior, both (K, B, Z). Raises `UserError` if there is no prior."""
    if not isinstance(d.model, Generative):
        raise UserError("this objective or regularizer needs samples of a prior, and this model has no prior; use l2, or the model vae")
    k, b, _ = d.z.shape
    return d.z, d.model.draw_prior(k * b).unflatten(0, (k, b))


def diagonal(d: Draws) -> Diagonal:
    """q(z | x) of the batch. Raises `UserError` unless its units are independent Gaussians."""
    if not isinstance(d.q, Diagonal):
        raise UserError("this regularizer needs a q(z | x) of independent Gaussian units; use a vae with posterior=diagonal")
    return d.q


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(K, N, Z), (K, M, Z) -> (K, N, M)."""
    squares = a.square().sum(-1, keepdim=True) + b.square().sum(-1).unsqueeze(-2)
    return (squares - 2 * a @ b.mT).clamp(min=0)


def mmd(z: Tensor, y: Tensor, kernel: str = "imq") -> Tensor:
    """() the squared maximum mean discrepancy of z and y (K, B, Z): the unbiased estimate, the mean over K (Gretton et al. 2012).

    Summed over SCALES s, with C = 2 s E|y|^2: `imq` is C / (C + |a - b|^2), `rbf` is exp(-|a - b|^2 / C). Between equal distributions its
    expectation is 0, so that it may be negative.
    """
    one_of("kernel", kernel, ("imq", "rbf"))
    size, b = 2 * y.detach().square().sum(-1).mean(), z.shape[-2]

    def similarity(u: Tensor, v: Tensor) -> Tensor:
        distance = squared_distances(u, v) / size
        return sum((s / (s + distance) if kernel == "imq" else (-distance / s).exp() for s in SCALES), torch.zeros_like(distance))

    others = 1 - torch.eye(b, dtype=z.dtype, device=z.device)
    within = ((similarity(z, z) + similarity(y, y)) * others).sum((-1, -2)) / (b * max(1, b - 1))
    return (within - 2 * similarity(z, y).mean((-1, -2))).mean()


def sliced(z: Tensor, y: Tensor, directions: int = 50) -> Tensor:
    """() the squared sliced Wasserstein-2 distance of z and y (K, B, Z): the mean over random directions and over K.

    In each direction, the mean squared distance of sorted projections (Kolouri et al. 2019).
    """
    ways = torch.randn(z.shape[-1], directions, dtype=z.dtype, device=z.device)
    ways = ways / ways.norm(dim=0)
    return ((z @ ways).sort(-2).values - (y @ ways).sort(-2).values).square().mean()


def image_weights(z: Tensor, n: int, stratified: bool) -> Tensor:
    """(B, B) the weights w_ij of the estimate sum_j w_ij q(z_i | x_j) of q(z_i), for z (K, B, Z) of a batch of `n` training images.

    `stratified`: 1/N for the image itself, 1/M for M - 1 others, (N - M) / (N M) for the last other, with M = B - 1 (Chen et al. 2018,
    appendix C.2; unbiased). Else 1 / (N B) for each (appendix C.1; biased).
    """
    b = z.shape[-2]
    own = torch.eye(b, dtype=z.dtype, device=z.device)
    if not stratified or b == 1:
        return torch.full_like(own, 1 / (n * b))
    m, last = b - 1, own.roll(1, 1)
    return own / n + last * (max(n, b) - m) / (max(n, b) * m) + (1 - own - last) / m


def total_correlation(z: Tensor, q: Diagonal, n: int, stratified: bool = False) -> Tensor:
    """KL(q(z) || prod_j q(z_j)) of the aggregate posterior, estimated from a batch of B of `n` training images (Chen et al. 2018).

    Args:
        z: (K, B, Z) samples of q.
        q: q(z | x) of the B images.
        n: The number N of training images.
        stratified: See `image_weights`.

    Returns:
        (K, B) log q(z) - sum_j log q(z_j).
    """
    mean, log_scale = q.mean.unsqueeze(-3), q.log_scale.unsqueeze(-3)
    each = -0.5 * ((z.unsqueeze(-2) - mean) * (-log_scale).exp()).square() - log_scale - C  # (K, B, B, Z): z_i, x_j
    log_weight = image_weights(z, n, stratified).log().unsqueeze(-1)
    joint = (each.sum(-1) + log_weight.squeeze(-1)).logsumexp(-1)
    return joint - (each + log_weight).logsumexp(-2).sum(-1)
