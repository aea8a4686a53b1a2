"""The Riemannian Hamiltonian VAE: latents move by Hamiltonian dynamics whose momentum has a covariance that is learnt from the data."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vae_variants.models.base import MODELS
from vae_variants.models.factors import cholesky
from vae_variants.models.hamiltonian import Driven, Phase, Schedule, gradient, leapfrog
from vae_variants.models.likelihoods import Likelihood
from vae_variants.models.networks import encoder, start
from vae_variants.models.posteriors import Drawn, LogJoint, Space, places, triangular
from vae_variants.models.priors import chosen_at_random
from vae_variants.models.vae import VAE
from vae_variants.registry import UserError


class Spot(NamedTuple):
    """The metric at positions z (..., Z).

    Attributes:
        inverse: G^-1(z), (..., Z, Z).
        slopes: The gradients of the weights exp(-|z - c_i|^2 / T^2), (..., N, Z).
        matrices: M (N, Z, Z).
    """

    inverse: Tensor
    slopes: Tensor
    matrices: Tensor

    @property
    def log_volume(self) -> Tensor:
        """log sqrt det G^-1(z), (...)."""
        return 0.5 * torch.linalg.slogdet(self.inverse).logabsdet

    @property
    def uphill(self) -> Tensor:
        """The gradient of `log_volume`, (..., Z): half of sum_i tr(G M_i) times the slope of the i-th weight."""
        traces = torch.linalg.inv(self.inverse).flatten(-2) @ self.matrices.flatten(-2).mT
        return 0.5 * (traces.unsqueeze(-2) @ self.slopes).squeeze(-2)

    def velocity(self, p: Tensor) -> Tensor:
        """G^-1(z) p."""
        return (self.inverse @ p.unsqueeze(-1)).squeeze(-1)

    def mixed(self, p: Tensor) -> Tensor:
        """A (..., Z, Z), the Jacobian of G^-1(z) p in z. The slope of p^T G^-1(z) p / 2 in z is A^T p / 2, whose Jacobian in p is A^T."""
        n, units, _ = self.matrices.shape
        turned = (p @ self.matrices.transpose(0, 1).flatten(1)).unflatten(-1, (n, units))  # M_i p
        return turned.mT @ self.slopes


class Metric(NamedTuple):
    """G^-1(z) = sum_i M_i exp(-|z - c_i|^2 / T^2) + floor I, with M_i = L_i L_i^T (Chadebec, Mantoux & Allassonnière 2020).

    Attributes:
        centres: c (N, Z).
        matrices: M (N, Z, Z), positive definite.
        temperature: T.
        floor: The smallest eigenvalue of G^-1 far from all centres.
    """

    centres: Tensor
    matrices: Tensor
    temperature: float
    floor: float

    def at(self, z: Tensor) -> Spot:
        """The metric at z (..., Z)."""
        away = z.unsqueeze(-2) - self.centres
        weights = (-away.square().sum(-1) / self.temperature**2).exp()
        near = (weights @ self.matrices.flatten(-2)).unflatten(-1, (z.shape[-1], z.shape[-1]))
        floor = self.floor * torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
        return Spot(near + floor, away * (weights * (-2 / self.temperature**2)).unsqueeze(-1), self.matrices)


class Step(NamedTuple):
    """A phase, the metric there, and the logarithm (...) of the volume by which the steps before it stretched."""

    phase: Phase
    spot: Spot
    log_det: Tensor


def transposed(a: Tensor, p: Tensor) -> Tensor:
    """A^T p."""
    return (p.unsqueeze(-2) @ a).squeeze(-2)


def generalized(start: Phase, metric: Metric, force: Callable[[Tensor], Tensor], size: Tensor, scales: Tensor, iterations: int) -> Step:
    """K steps of the generalized leapfrog for H = -log f(z) + log det G(z) / 2 + p^T G^-1(z) p / 2, for scales (K,) and sizes (Z,).

    r = p - size dH/dz(z, r) / 2, z' = z + size (G^-1(z) + G^-1(z')) r / 2, p' = scale (r - size dH/dz(z', r) / 2). The first two are
    implicit: `iterations` fixed-point iterations from p and z stand for them, which keep volume only roughly. The log-determinant is that
    of the steps as they are taken, without that of `scales`. `force` is the gradient of log f.
    """
    z, p = start
    half, log_det, spot = 0.5 * size, z.new_zeros(z.shape[:-1]), metric.at(z)
    rows, one = half.unsqueeze(-1), torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    pull = force(z) + spot.uphill if len(scales) else z
    for scale in scales.unbind():
        r, first = p, one
        for _ in range(iterations):
            a = spot.mixed(r)
            first = one - rows * (a.mT @ first)
            r = p + half * (pull - 0.5 * transposed(a, r))
        velocity, a = spot.velocity(r), spot.mixed(r)
        change, end, second = a, z, one
        for _ in range(iterations):
            second = one + rows * (change + a @ second)
            end = z + half * (velocity + spot.velocity(r))
            spot = metric.at(end)
            a = spot.mixed(r)
        z, pull = end, force(end) + spot.uphill
        third = one - rows * a.mT
        p = scale * (r + half * (pull - 0.5 * transposed(a, r)))
        log_det = log_det + torch.linalg.slogdet(first @ second @ third).logabsdet
    return Step(Phase(z, p), spot, log_det)


def walked(z: Tensor, metric: Metric, transitions: int, size: float, steps: int) -> Tensor:
    """Hamiltonian Monte Carlo on the volume sqrt det G^-1(z) from z (n, Z): leapfrog steps, accepted or not (Chadebec et al. 2021)."""
    sizes, scales = z.new_tensor(size), z.new_ones(steps)
    for _ in range(transitions):
        momentum = torch.randn(z.shape, dtype=z.dtype, device=z.device)
        end = leapfrog(Phase(z, momentum), lambda at: metric.at(at).uphill, sizes, scales)
        kinetic = 0.5 * (momentum.square() - end.momentum.square()).sum(-1)
        gain = metric.at(end.z).log_volume - metric.at(z).log_volume + kinetic
        accepted = torch.rand(gain.shape, dtype=z.dtype, device=z.device).log() < gain
        z = torch.where(accepted.unsqueeze(-1), end.z, z)
    return z


@MODELS.add(name="riemannian-vae")
class RiemannianVAE(VAE):
    """A VAE whose posterior is moved by Hamiltonian dynamics with momentum p ~ N(0, G(z) / beta_0): RHVAE (Chadebec et al. 2020).

    G^-1(z) = sum_i L_i L_i^T exp(-|z - c_i|^2 / `temperature`^2) + `floor` I over `centroids` training images, chosen at random before
    training: c_i is the mean of q(z_0 | x_i), and L_i a triangular matrix that a network of its own gives for x_i. Pythae takes those of
    the batch in training, and all images afterwards. Logarithms of the diagonal of L_i and Z^1/2 times the numbers below it are kept in
    (-1, 1), so that G stays well conditioned.

    The generalized leapfrog takes `leapfrog` steps with `iterations` fixed-point iterations each. log w has the log-determinant of those
    iterations as they are, so that bounds hold for any number of them; the paper takes it for 0. The steps must be short: with long ones
    the iterations are no longer one-to-one. The tempering is that of posterior=hamiltonian.

    If `manifold`, images are decoded from latents that `transitions` Hamiltonian transitions lead from the centroids over the density
    sqrt det G^-1(z), which is high near the data (Chadebec et al. 2021); it has no finite integral, so that long chains leave the data.
    Else `sampler` draws them. The prior of the bound remains p(z). The volume is that around means of q(z_0 | x): where q is wide, these
    images vary less than those of p(z), and less than the data.
    """

    images: Tensor
    place: Tensor

    def __init__(
        self, shape: tuple[int, int, int], likelihood: Likelihood, n: int, *, latent: int = 10, centroids: int = 100,
        temperature: float = 1.5, floor: float = 0.01, leapfrog: int = 1, step: float = 0.05, largest: float = 0.1,
        tempering: str = "quadratic", beta: float = 0.3, iterations: int = 3, manifold: bool = True, transitions: int = 20, **options: Any,
    ) -> None:  # fmt: skip
        if not temperature > 0 or not floor > 0:
            raise UserError("a metric needs a temperature and a floor above 0; leave them out for 1.5 and 0.01")
        super().__init__(shape, likelihood, latent=latent, **options)
        network, hidden, activation = (options.get(k, d) for k, d in (("network", "mlp"), ("hidden", (200, 200)), ("activation", "silu")))
        self.metric = encoder(network, shape, latent * (latent + 1) // 2, hidden, activation)
        self.schedule = Schedule(latent, leapfrog, step, largest, tempering, beta)
        self.temperature, self.floor, self.iterations = temperature, floor, iterations
        self.manifold, self.transitions = manifold, transitions
        self.register_buffer("images", torch.rand(min(centroids, n), math.prod(shape)))
        self.register_buffer("place", places(latent), persistent=False)
        self.compose(self.prior, Driven, Space.REAL)

    def initialise(self, x: Tensor) -> None:
        super().initialise(x)
        start(self.metric, nn.Identity(), x.mean(0), x.new_zeros(0))
        self.images.copy_(chosen_at_random(x, len(self.images)))

    def geometry(self) -> Metric:
        """The metric of the latents as the networks are now."""
        diagonal, below = self.metric(self.images).tensor_split([self.latent], -1)
        roots = triangular(diagonal.tanh().exp(), below.tanh() / math.sqrt(self.latent), self.place)
        centres = self.posterior(self.encoder(self.images)).mean
        return Metric(centres, roots @ roots.mT, self.temperature, self.floor)

    def conditional(self, x: Tensor) -> Driven:
        return Driven(super().conditional(x), self.path(self.geometry(), partial(self.log_joint, x)))

    def path(self, metric: Metric, log_joint: LogJoint) -> Callable[[Tensor, Tensor], Drawn]:
        """The dynamics of `Driven`."""
        widths, scales, force = self.schedule.widths, self.schedule.scales, gradient(log_joint)

        def path(z: Tensor, noise: Tensor) -> Drawn:
            begin = metric.at(z)
            root = cholesky(begin.inverse)  # G^-1 = R R^T, and R^-T noise ~ N(0, G)
            p = torch.linalg.solve_triangular(root.mT, noise.unsqueeze(-1), upper=True).squeeze(-1)
            (z, p), spot, log_det = generalized(Phase(z, widths[0] * p), metric, force, self.schedule.size, scales, self.iterations)
            energy = 0.5 * ((p * spot.velocity(p)).sum(-1) - noise.square().sum(-1))
            return Drawn(z, energy + begin.log_volume - spot.log_volume - log_det)

        return path

    def latents(self, n: int) -> Tensor:
        if not self.manifold:
            return super().latents(n)
        metric = self.geometry()
        first = metric.centres[torch.randint(len(metric.centres), (n,), device=metric.centres.device)]
        return walked(first, metric, self.transitions, size=0.1, steps=5)
