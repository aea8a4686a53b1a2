"""Normalising flows of latents, and the priors that they give: log p(z) = log N(u; 0, I) + log |det du / dz| with u = f(z)."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from vae_variants.models.masked import MaskedNetwork
from vae_variants.models.networks import layers
from vae_variants.models.posteriors import C
from vae_variants.models.priors import PRIORS, Prior, Q
from vae_variants.registry import UserError

BOUND = 3.0  # of a log scale


def bounded(log_scale: Tensor) -> Tensor:
    """In (-BOUND, BOUND), near the identity around 0."""
    return BOUND * torch.tanh(log_scale / BOUND)


@torch.no_grad()
def quieten(layer: nn.Module) -> None:
    """Shrinks a last linear layer, so that a flow starts near the identity."""
    assert isinstance(layer, nn.Linear)
    layer.weight.mul_(0.1)
    layer.bias.zero_()


class Flow(nn.Module, ABC):
    """An invertible map from latents z to standard normal noise u."""

    @abstractmethod
    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z (..., Z) -> u (..., Z) and log |det du / dz| (...)."""

    @abstractmethod
    def inverse(self, u: Tensor) -> Tensor:
        """u (..., Z) -> z (..., Z)."""

    def log_prob(self, z: Tensor) -> Tensor:
        """z (..., Z) -> (...) nats: the change of variables."""
        u, log_det = self(z)
        return (-0.5 * u.square() - C).sum(-1) + log_det


class Chain(Flow):
    """Flows one after the other."""

    def __init__(self, flows: Iterable[Flow]) -> None:
        super().__init__()
        self.flows = nn.ModuleList(flows)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        log_det = z.new_zeros(z.shape[:-1])
        for flow in self.flows:
            z, part = flow(z)
            log_det = log_det + part
        return z, log_det

    def inverse(self, u: Tensor) -> Tensor:
        for flow in cast(Sequence[Flow], [*self.flows][::-1]):
            u = flow.inverse(u)
        return u


class Coupling(Flow):
    """u_a = z_a, u_b = (z_b - m(z_a)) exp(-s(z_a)): a is one half of the units, b the other (RealNVP, Dinh et al. 2017)."""

    def __init__(self, latent: int, width: int, *, reverse: bool = False) -> None:
        super().__init__()
        self.kept, self.reverse = latent // 2, reverse
        self.network = layers([self.kept, width, width, 2 * (latent - self.kept)], "silu")
        quieten(self.network[-1])

    def halves(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """a, b, m(a) and s(a)."""
        z = z.flip(-1) if self.reverse else z
        a, b = z[..., : self.kept], z[..., self.kept :]
        m, s = self.network(a).chunk(2, -1)
        return a, b, m, bounded(s)

    def whole(self, a: Tensor, b: Tensor) -> Tensor:
        z = torch.cat([a, b], -1)
        return z.flip(-1) if self.reverse else z

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        a, b, m, s = self.halves(z)
        return self.whole(a, (b - m) * (-s).exp()), -s.sum(-1)

    def inverse(self, u: Tensor) -> Tensor:
        a, b, m, s = self.halves(u)
        return self.whole(a, m + s.exp() * b)


class Autoregression(Flow):
    """u_i = (z_i - m_i) exp(-s_i), with m_i and s_i functions of the units before i (MAF, Papamakarios et al. 2017)."""

    unit: Tensor

    def __init__(self, latent: int, width: int, *, reverse: bool = False) -> None:
        super().__init__()
        self.latent, self.reverse = latent, reverse
        self.network = MaskedNetwork(latent, 2, (width, width), reverse=reverse)
        self.register_buffer("unit", torch.arange(latent), persistent=False)
        quieten(self.network.layers[-1])

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        m, s = self.network(z)
        s = bounded(s)
        return (z - m) * (-s).exp(), -s.sum(-1)

    def inverse(self, u: Tensor) -> Tensor:
        """Unit by unit, in their order."""
        z = torch.zeros_like(u)
        for i in reversed(range(self.latent)) if self.reverse else range(self.latent):
            m, s = self.network(z)
            z = torch.where(self.unit == i, m + bounded(s).exp() * u, z)
        return z


def masked_autoregressive(latent: int, flows: int, width: int) -> Chain:
    """Autoregressions that alternate the order of the units."""
    return Chain(Autoregression(latent, width, reverse=i % 2 == 1) for i in range(flows))


class Inverted(Flow):
    """The inverse of a flow: that of a masked autoregressive flow is an inverse autoregressive flow, whose samples take one pass."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        u = self.flow.inverse(z)
        return u, -self.flow(u)[1]

    def inverse(self, u: Tensor) -> Tensor:
        return cast(Tensor, self.flow(u)[0])


class FlowPrior(Prior):
    """Base class of priors that are the noise N(0, I) through the inverse of a flow."""

    def __init__(self, latent: int, flow: Flow) -> None:
        super().__init__(latent)
        self.flow = flow

    def sample(self, n: int, q: Q) -> Tensor:
        return self.flow.inverse(torch.randn(n, self.latent, dtype=self.like.dtype, device=self.like.device))

    def log_prob(self, z: Tensor, q: Q) -> Tensor:
        return self.flow.log_prob(z)


@PRIORS.add(name="realnvp")
class RealNVPPrior(FlowPrior):
    """N(0, I) through `flows` affine couplings of networks with two layers of `width` units (Dinh et al. 2017).

    The halves of the units take turns. Log scales lie in (-3, 3).
    """

    def __init__(self, latent: int, *, flows: int = 4, width: int = 100) -> None:
        if latent < 2:
            raise UserError("prior=realnvp couples latent units and needs at least two; write latent=2, or prior=maf")
        super().__init__(latent, Chain(Coupling(latent, width, reverse=i % 2 == 1) for i in range(flows)))


@PRIORS.add(name="maf")
class MAFPrior(FlowPrior):
    """N(0, I) through `flows` masked autoregressive flows of networks with two layers of `width` units (Papamakarios et al. 2017).

    The order of the units alternates. The density takes one pass, a sample one for each unit. Log scales lie in (-3, 3).
    """

    def __init__(self, latent: int, *, flows: int = 2, width: int = 100) -> None:
        super().__init__(latent, masked_autoregressive(latent, flows, width))
