"""Models that cheat, each rejected by the check that names how, and models that are right and unusual."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from vae_variants.checks import Failed, Skipped, checks_of, latent
from vae_variants.models.base import MODELS, MeanSampler, Model, Player, Sampler
from vae_variants.models.likelihoods import Bernoulli, Support
from vae_variants.models.networks import decoder, encoder
from vae_variants.models.objectives import OBJECTIVES
from vae_variants.models.posteriors import Diagonal, DiagonalNormal, Drawn
from vae_variants.models.priors import StandardNormal
from vae_variants.models.regularizers import REGULARIZERS
from vae_variants.models.vae import VAE


class Base(VAE):
    """A VAE for images of binary pixels, to be changed."""

    def __init__(self, shape, likelihood, *, latent: int = 3, hidden=(7,)) -> None:
        super().__init__(shape, likelihood, latent=latent, hidden=hidden, **self.parts(latent))

    def parts(self, latent: int) -> dict:
        return {}


class HighPrior(StandardNormal):
    def log_prob(self, z, q):
        return super().log_prob(z, q) + 5


class OtherPrior(StandardNormal):
    def sample(self, n, q):
        return 0.5 * super().sample(n, q) + 1


class Low(Diagonal):
    def draw(self, k):
        drawn = super().draw(k)
        return drawn._replace(log_q=drawn.log_q - 3)

    def log_prob(self, z):
        return super().log_prob(z) - 3


class LowPosterior(DiagonalNormal):
    gives = Low

    def forward(self, h):
        return Low(*h.chunk(2, -1))


class Autoregressive(Diagonal):
    """z_j = u_j + tanh(u_{j-1}) with the density of z, under the mean and the scale of u."""

    def draw(self, k):
        u, log_q = super().draw(k)
        return Drawn(u + nn.functional.pad(u[..., :-1].tanh(), (1, 0)), log_q)


class Inverted(Autoregressive):
    """As before, with the density of z at any z."""

    def log_prob(self, z):
        u = [z[..., 0]]
        for at in z.unbind(-1)[1:]:
            u.append(at - u[-1].tanh())
        return super().log_prob(torch.stack(u, -1))


class FlowPosterior(DiagonalNormal):
    def forward(self, h):
        return Autoregressive(*h.chunk(2, -1))


class InvertedPosterior(DiagonalNormal):
    def forward(self, h):
        return Inverted(*h.chunk(2, -1))


class PriorTooHigh(Base):
    """Its log p(z) is 5 nats too high."""

    def parts(self, latent):
        return {"prior": HighPrior(latent)}


class HalfTheKL(Base):
    """Its KL is half of what it is."""

    def infer(self, x, k, t):
        d = super().infer(x, k, t)
        return d._replace(kl=0.5 * d.kl, kl_units=0.5 * d.kl_units)


class AnotherPrior(Base):
    """It scores another prior than it samples."""

    def parts(self, latent):
        return {"prior": OtherPrior(latent)}


class QTooLow(Base):
    """Its log q(z | x) is 3 nats too low, wherever it is asked for."""

    def parts(self, latent):
        return {"posterior": LowPosterior(latent)}


class Company(Base):
    """Its encoder standardises by the batch."""

    def conditional(self, x):
        h = self.encoder(x)
        return self.posterior((h - h.mean(0)) / (h.std(0) + 0.1))


class SaysGaussian(Base):
    """Its flow says that it is a diagonal Gaussian."""

    def parts(self, latent):
        return {"posterior": FlowPosterior(latent)}


class ScoredAsItIs(Base):
    """Its flow says that it is a diagonal Gaussian, and has the right density."""

    def parts(self, latent):
        return {"posterior": InvertedPosterior(latent)}


SUM, KL, Q = "weights-sum-to-one-over-all-images", "the-kl-is-that-of-its-densities", "samples-have-the-density-of-q"
PRIOR, P_OF_X, ALONE = "the-prior-draws-what-it-scores", "samples-of-the-prior-give-the-same-p-of-x", "an-image-is-seen-alone"
CHEATS = {
    PriorTooHigh: {SUM, KL, PRIOR, P_OF_X},
    HalfTheKL: {KL},
    AnotherPrior: {PRIOR, P_OF_X},
    QTooLow: {SUM, KL, P_OF_X},
    Company: {ALONE},
    SaysGaussian: {Q, KL},
    ScoredAsItIs: {Q, KL},
}


@pytest.fixture
def added() -> Iterator[list]:
    registries: list = []
    yield registries
    for registry in registries:
        registry.drop("mine")


def broken(kind: str, module: str = "") -> dict[str, str]:
    """Failed check -> what it found, of all checks of a kind or of those in one module."""
    found = {}
    for each in (one for one in checks_of(kind) if module in getattr(one.run, "__module__", "")):
        try:
            each("mine")
        except Skipped:
            continue
        except Failed as failed:
            found[each.name] = str(failed)
    return found


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_model_that_cheats_is_rejected_by_the_check_that_says_how(cheat: type[Model], added: list) -> None:
    MODELS.add(cheat, name="mine")
    added.append(MODELS)
    found = broken("model", latent.__name__)
    assert set(found) == CHEATS[cheat], found


def kernel(a: Tensor, b: Tensor) -> Tensor:
    return (-(a.unsqueeze(-2) - b.unsqueeze(-3)).square().sum(-1) / 2).exp().mean((-1, -2))


def mmd(d) -> Tensor:
    """MMD^2 of the latents and samples of the prior, with a Gaussian kernel."""
    prior = d.model.draw_prior(d.z.shape[-2])
    return kernel(d.z[0], d.z[0]) + kernel(prior, prior) - 2 * kernel(d.z[0], prior)


def info_vae(d) -> Tensor:
    """InfoVAE: the ELBO, and the MMD of the latents from other samples of the prior in each call."""
    return d.kl - d.log_px.mean(0) + (10 * mmd(d) if d.model is not None else 0)


def wae(d, weight: float = 10.0) -> Tensor:
    """WAE: weight times the MMD of the latents."""
    return weight * mmd(d)


class WGAN(Model, Sampler, MeanSampler):
    """Wasserstein GAN with a gradient penalty (Gulrajani et al. 2017): the last bias of its critic has no gradient."""

    players: tuple[Player, ...] = (Player(("critic.",), "critic_loss", steps=5), Player(("generator.",), "loss"))
    support: ClassVar[Support] = Support.UNIT

    def __init__(self, shape, *, latent: int = 3, hidden=(7,), activation: str = "silu") -> None:
        super().__init__()
        self.generator = decoder("mlp", latent, shape, 1, hidden, activation)
        self.critic = encoder("mlp", shape, 1, hidden, activation)
        self.shape, self.latent = shape, latent

    def sample(self, n):
        return self.generator(torch.randn(n, self.latent, dtype=next(self.parameters()).dtype)).sigmoid()

    def sample_mean(self, n):
        return self.sample(n)

    def critic_loss(self, x, t):
        fake = self.sample(len(x))
        between = x + torch.rand(len(x), 1, dtype=x.dtype) * (fake - x)
        slope = torch.func.grad(lambda v: self.critic(v).sum())(between)
        penalty = (slope.square().sum(-1).sqrt() - 1).square().mean()
        return self.critic(fake).mean() - self.critic(x).mean() + 10 * penalty

    def loss(self, x, t):
        return -self.critic(self.sample(len(x))).mean()


class Unused(WGAN):
    """A WGAN with a bias that nothing uses."""

    def __init__(self, shape, *, latent: int = 3, hidden=(7,)) -> None:
        super().__init__(shape, latent=latent, hidden=hidden)
        self.critic.register_parameter("extra", nn.Parameter(torch.zeros(1)))


class WAE(Base):
    """A deterministic encoder kept near the prior by an MMD: it has no nats."""

    def __init__(self, shape, likelihood, *, latent: int = 3, hidden=(7,)) -> None:
        from vae_variants.models.objectives import reconstruction
        from vae_variants.models.posteriors import PointPosterior

        VAE.__init__(
            self, shape, likelihood, reconstruction, posterior=PointPosterior(latent), regularizer=wae, latent=latent, hidden=hidden
        )


@pytest.mark.parametrize("right", [WGAN, WAE, Base])
def test_a_right_model_is_not_rejected(right: type[Model], added: list) -> None:
    MODELS.add(right, name="mine")
    added.append(MODELS)
    assert broken("model") == {}


def test_a_bias_that_nothing_uses_is_found(added: list) -> None:
    MODELS.add(Unused, name="mine")
    added.append(MODELS)
    found = broken("model", "checks.model")
    assert "extra" in found.get("each-players-loss-reaches-each-of-its-parameters", "")


def test_an_objective_or_regularizer_with_samples_of_its_own_is_not_rejected(added: list) -> None:
    info_vae.bound = False  # type: ignore[attr-defined]
    for registry, entry in ((OBJECTIVES, info_vae), (REGULARIZERS, wae)):
        registry.add(entry, name="mine")
        added.append(registry)
        assert broken(registry.kind) == {}


def test_a_model_without_nats_is_asked_for_none() -> None:
    from vae_variants.models.base import Density, LatentVariable

    model = WAE((1, 2, 2), Bernoulli())
    assert not isinstance(model, (Density, LatentVariable))
