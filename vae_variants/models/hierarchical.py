"""VAEs with several layers of latents."""

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vae_variants.models.base import MODELS, Euclidean, Layered, ScoredPosterior
from vae_variants.models.divergences import one_of
from vae_variants.models.draws import Draws, gated
from vae_variants.models.latent import Composite, LatentModel
from vae_variants.models.likelihoods import Likelihood
from vae_variants.models.networks import ACTIVATIONS, Network, decoder, encoder, layers
from vae_variants.models.objectives import Objective, elbo, elbo_sampled
from vae_variants.models.posteriors import Diagonal, Drawn, Scored
from vae_variants.models.priors import Prior, Q
from vae_variants.models.regularizers import Regularizer, none
from vae_variants.models.samplers import PriorSampler

WIDEST = 7.0  # nats: log scales are held within this distance of 0
WAYS = ("bottom-up", "top-down")  # of inference


def gaussian(h: Tensor) -> Diagonal:
    """Means and log scales h (..., 2 Z) -> N(mean, diag scale^2).

    A log scale beyond `WIDEST` is held there and keeps its gradient, so that the KL of two layers is finite for any h.
    """
    mean, log_scale = h.chunk(2, -1)
    return Diagonal(mean, log_scale + (log_scale.clamp(-WIDEST, WIDEST) - log_scale).detach())


def merged(p: Diagonal, likelihood: Diagonal) -> Diagonal:
    """The normalised product of two diagonal Gaussians: precisions are added, and weigh the means.

    1 / s^2 = 1 / s_1^2 + 1 / s_2^2, mean = s^2 (m_1 / s_1^2 + m_2 / s_2^2) (Sonderby et al. 2016, Ladder VAE).
    """
    weight = torch.sigmoid(2 * (p.log_scale - likelihood.log_scale))
    return Diagonal(p.mean + weight * (likelihood.mean - p.mean), -0.5 * torch.logaddexp(-2 * p.log_scale, -2 * likelihood.log_scale))


def divergence(q: Diagonal, p: Diagonal) -> Tensor:
    """KL(q || p) of each unit: log s_p - log s_q + (s_q^2 + (mean_q - mean_p)^2) / (2 s_p^2) - 1 / 2, (..., Z) nats."""
    ratio = q.log_scale - p.log_scale
    return 0.5 * ((2 * ratio).exp() + ((q.mean - p.mean) * (-p.log_scale).exp()).square() - 1) - ratio


def log_ratio(q: Diagonal, p: Diagonal, z: Tensor) -> Tensor:
    """log q(z) - log p(z) of each unit, (..., Z) nats."""
    first, second = (((z - each.mean) * (-each.log_scale).exp()).square() for each in (q, p))
    return 0.5 * (second - first) + p.log_scale - q.log_scale


class MarkovPrior(Prior):
    """p(z_L) p(z_(L-1) | z_L) ... p(z_1 | z_2), with p(z_L) = N(0, I) and diagonal Gaussians below.

    A z is the concatenation of the layers, bottom first.

    Args:
        sizes: Units of each layer, bottom first.
        hidden: Widths of each layer's networks, those of the bottom layer first.
        activation: Name of the activation.
    """

    def __init__(self, sizes: Sequence[int], hidden: Sequence[Sequence[int]], activation: str) -> None:
        super().__init__(sum(sizes))
        self.sizes = tuple(sizes)
        ways = zip(pairwise(sizes), hidden[1:], strict=True)
        self.networks = nn.ModuleList(layers([above, *reversed(width), 2 * below], activation) for (below, above), width in ways)

    def given(self, z: Tensor) -> list[Diagonal]:
        """z (..., Z) -> p(z_l | z_(l+1)) of each layer, bottom first, with means (..., Z_l)."""
        _, *above = z.split(self.sizes, -1)
        top = z[..., -self.sizes[-1] :]
        found = [gaussian(network(each)) for network, each in zip(self.networks, above, strict=True)]
        return [*found, Diagonal(torch.zeros_like(top), torch.zeros_like(top))]

    def sample(self, n: int, q: Q) -> Tensor:
        parts = [torch.randn(n, self.sizes[-1], dtype=self.like.dtype, device=self.like.device)]
        for network in reversed(self.networks):
            parts.append(gaussian(network(parts[-1])).draw(1).z[0])
        return torch.cat(parts[::-1], -1)

    def log_prob(self, z: Tensor, q: Q) -> Tensor:
        return torch.stack([p.log_prob(each) for p, each in zip(self.given(z), z.split(self.sizes, -1), strict=True)]).sum(0)


class Step(NamedTuple):
    """A layer's Gaussian, given the layer drawn before: that of `network`, times `likelihood` if there is one."""

    network: nn.Module
    likelihood: Diagonal | None = None
    constant: bool = False  # whether the gradient passes the network's parameters by

    def __call__(self, z: Tensor) -> Diagonal:
        parameters = {name: each.detach() for name, each in self.network.named_parameters()} if self.constant else {}
        p = gaussian(functional_call(self.network, parameters, (z,)) if self.constant else self.network(z))
        return merged(p, self.likelihood) if self.likelihood else p

    def detached(self) -> Self:
        return self._replace(likelihood=self.likelihood and self.likelihood.detached(), constant=True)


class Layer(NamedTuple):
    """Samples z (K, B, Z_l) of a layer, and the Gaussian of which they are."""

    z: Tensor
    q: Diagonal


class Chain(Scored):
    """q(z | x) of layers that are drawn one after the other, each given the one before.

    A z is the concatenation of the layers, bottom first. `mean` has each layer's mean, given that of the layer before: for nonlinear
    networks it is not the mean of q.

    Args:
        first: The Gaussian of the layer that is drawn first.
        steps: Those of the others, in this order.
        upward: Whether the first one is the bottom layer, not the top one.
    """

    def __init__(self, first: Diagonal, steps: Sequence[Step], upward: bool) -> None:
        self.first, self.steps, self.upward = first, tuple(steps), upward

    def walk(self, pick: Callable[[Diagonal], Tensor]) -> list[Layer]:
        """The layers, bottom first, if `pick` gives the z of each from its Gaussian, in the order in which they are drawn."""
        found = [Layer(pick(self.first), self.first)]
        for step in self.steps:
            q = step(found[-1].z)
            found.append(Layer(pick(q), q))
        return found if self.upward else found[::-1]

    def layers(self, k: int) -> list[Layer]:
        """k samples for each image, bottom layer first."""
        return self.walk(lambda q: q.draw(k).z if q is self.first else q.draw(1).z[0])

    @cached_property
    def mean(self) -> Tensor:  # type: ignore[override]
        return torch.cat([each.z for each in self.walk(lambda q: q.mean)], -1)

    def draw(self, k: int) -> Drawn:
        found = self.layers(k)
        return Drawn(torch.cat([each.z for each in found], -1), torch.stack([q.log_prob(z) for z, q in found]).sum(0))

    def log_prob(self, z: Tensor) -> Tensor:
        sizes = [each.z.shape[-1] for each in self.walk(lambda q: q.mean)]
        parts = iter(z.split(sizes, -1) if self.upward else z.split(sizes, -1)[::-1])
        return torch.stack([q.log_prob(part) for part, q in self.walk(lambda _: next(parts))]).sum(0)

    def detached(self) -> Self:
        return type(self)(self.first.detached(), [step.detached() for step in self.steps], self.upward)


@MODELS.add
class Hierarchical(Composite, LatentModel, ScoredPosterior, Euclidean, Layered):
    """VAE with several layers of latents: p(z_L) p(z_(L-1) | z_L) ... p(z_1 | z_2) p(x | z_1), all diagonal Gaussians but the last.

    `latents` are the units of each layer, bottom first. p(z_L) = N(0, I). `inference=bottom-up` draws z_1 from q(z_1 | x), then each
    layer from q(z_l | z_(l-1)) (Burda et al. 2016). `inference=top-down` draws z_L from q(z_L | x), then each layer from
    q(z_l | z_(l+1), x), the normalised product of p(z_l | z_(l+1)) and a Gaussian that a deterministic upward pass makes of x (ladder VAE,
    Sonderby et al. 2016, here without batch normalisation).

    `hidden` are the widths of the networks between image and bottom layer; those of each layer above are half as wide as those below it.

    One latent vector holds all layers, bottom first. Decoding it uses the bottom layer alone. The KL of a layer is closed given samples of
    the layers above it: of all layers if inference is top-down, of the top layer if it is bottom-up. It is an estimate, unless there is one
    layer only; then the model is `vae`.
    """

    exact: ClassVar[bool] = False
    prior: MarkovPrior

    def __init__(
        self,
        shape: tuple[int, int, int],
        likelihood: Likelihood,
        objective: Objective = elbo,
        regularizer: Regularizer = none,
        *,
        latents: Sequence[int] = (100, 50),
        inference: str = "bottom-up",
        samples: int = 1,
        network: str | Network = "mlp",
        hidden: Sequence[int] = (200, 200),
        activation: str = "silu",
    ) -> None:
        super().__init__()
        one_of("inference", inference, WAYS)
        self.layers, self.upward = tuple(latents), inference == "bottom-up"
        widths = [[max(1, width >> level) for width in hidden] for level in range(len(latents))]
        if self.upward:
            self.encoder = encoder(network, shape, 2 * latents[0], hidden, activation)
            ways = zip(pairwise(latents), widths[1:], strict=True)
            self.up = nn.ModuleList(layers([below, *width, 2 * above], activation) for (below, above), width in ways)
        else:
            self.encoder = encoder(network, shape, hidden[-1], hidden[:-1], activation)
            self.up = nn.ModuleList(layers([below[-1], *above], activation) for below, above in pairwise(widths))
            self.heads = nn.ModuleList(nn.Linear(width[-1], 2 * size) for width, size in zip(widths, latents, strict=True))
            self.activation = ACTIVATIONS[activation]()
        self.decoder = decoder(network, latents[0], shape, likelihood.k, hidden, activation)
        self.likelihood, self.shape, self.samples, self.support = likelihood, shape, samples, likelihood.support
        self.compose(MarkovPrior(latents, widths, activation), Chain)
        self.closed_kl = len(latents) == 1
        self.assemble(objective, regularizer, PriorSampler(sum(latents)))

    def conditional(self, x: Tensor) -> Chain:
        h = self.encoder(x)
        if self.upward:
            return Chain(gaussian(h), [Step(network) for network in self.up], True)
        features = [self.activation(h)]
        for network in self.up:
            features.append(self.activation(network(features[-1])))
        *lower, top = (gaussian(head(each)) for head, each in zip(self.heads, features, strict=True))
        steps = [Step(network, each) for network, each in zip(self.prior.networks, lower, strict=True)]
        return Chain(top, steps[::-1], False)

    def outputs(self, z: Tensor) -> Tensor:
        """z (..., Z) -> the decoder's outputs (..., k * D) at the bottom layer."""
        return super().outputs(z[..., : self.layers[0]])

    def draws(self, x: Tensor, t: Tensor) -> Draws:
        return self.infer(x, self.samples, t)

    def infer(self, x: Tensor, k: int, t: Tensor) -> Draws:
        q = self.conditional(x)
        drawn = q.layers(k)
        log_q = torch.stack([each.log_prob(z) for z, each in drawn]).sum(0)
        z, gate = gated(torch.cat([each.z for each in drawn], -1))
        p, parts = self.prior.given(z), z.split(self.layers, -1)
        log_p = torch.stack([each.log_prob(part) for each, part in zip(p, parts, strict=True)]).sum(0)
        closed = [not self.upward or each is p[-1] for each in p]
        terms = [
            divergence(own.q, each) if known else log_ratio(own.q, each, part)
            for own, each, part, known in zip(drawn, p, parts, closed, strict=True)
        ]
        units, outputs = torch.cat(terms, -1).mean(0), self.outputs(z)
        log_px = self.likelihood.log_prob(outputs, x)
        return Draws(log_px, log_p, log_q, units.sum(-1), units, z, t, gate, q, x, outputs, self)

    def log_prob(self, x: Tensor) -> Tensor:
        return -elbo_sampled(self.infer(x, 1, x.new_ones(())))
