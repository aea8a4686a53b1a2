"""What the evaluation says of latents with another prior, another q or another scale."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from tests.evaluation.test_evaluation import linear_evaluation
from vae_variants.checks.linear_gaussian import W1, W2
from vae_variants.datasets import Dataset
from vae_variants.evaluation import FIDELITIES, METRICS, Evaluation
from vae_variants.evaluation.gap import annealed, local
from vae_variants.evaluation.latent import log_aggregate, log_mixture
from vae_variants.evaluation.units import Variance, variance
from vae_variants.harness.measured import score
from vae_variants.harness.pictures import pictures
from vae_variants.models.likelihoods import Bernoulli
from vae_variants.models.posteriors import C, Drawn, Scored
from vae_variants.models.priors import Prior
from vae_variants.models.vae import VAE
from vae_variants.variants import build

SCALE = 0.05


class Narrow(Prior):
    """N(0, SCALE^2 I)."""

    def sample(self, n, q):
        return SCALE * torch.randn(n, self.latent, dtype=self.like.dtype)

    def log_prob(self, z, q):
        return (-0.5 * (z / SCALE).square() - C - math.log(SCALE)).sum(-1)

    def quantile(self, u):
        return SCALE * torch.special.ndtri(u)[:, None].expand(-1, self.latent)


def trained(digits: Dataset, latent: int) -> VAE:
    """A VAE after some steps, with a unit that says nothing."""
    torch.manual_seed(0)
    model, x = VAE(digits.shape, Bernoulli(), latent=latent, hidden=(30,)), digits.grey("train")[:500]
    model.initialise(x)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(120):
        optimizer.zero_grad()
        model.loss(x.bernoulli(), torch.ones(())).backward()
        optimizer.step()
    last = model.encoder[-1]
    with torch.no_grad():
        last.weight[0], last.weight[latent], last.bias[0], last.bias[latent] = 0.0, 0.0, 0.0, 0.0
    return model.eval().requires_grad_(False)


def rescaled(model: VAE) -> VAE:
    """The same model with z' = SCALE z."""
    found = VAE(model.shape, Bernoulli(), prior=Narrow(model.latent), latent=model.latent, hidden=(30,)).eval().requires_grad_(False)
    found.load_state_dict(model.state_dict())
    last, first = found.encoder[-1], next(layer for layer in found.decoder if isinstance(layer, torch.nn.Linear))
    last.weight[: model.latent] *= SCALE
    last.bias[: model.latent] *= SCALE
    last.bias[model.latent :] += math.log(SCALE)
    first.weight /= SCALE
    return found


@pytest.mark.parametrize("latent", [2, 6])
def test_nothing_depends_on_the_scale_of_the_latents(latent: int, digits: Dataset) -> None:
    sizes = replace(FIDELITIES["smoke"], annealed_images=2, temperatures=20, local_steps=30, bound_samples=30, bound_images=30)
    small, model = digits.subset(300, 100), trained(digits, latent)
    one, other = (Evaluation(each, small, 0, sizes) for each in (model, rescaled(model)))
    names = "elbo log_likelihood active_units probe_codes probe_accuracy probe_accuracy_10 clustering_score mutual_information"
    for name in [*names.split(), "total_correlation", "information_ceiling", "reconstruction_mse"]:
        values = [METRICS[name].fn(e) for e in (one, other)]
        tolerance = 0.2 if name in ("elbo", "log_likelihood") else 0.011 if name.startswith(("probe_accuracy", "clus")) else 1e-3
        assert values[0] == pytest.approx(values[1], abs=tolerance), name
    assert METRICS["active_units"].fn(one) == METRICS["probe_codes"].fn(one) == latent - 1
    assert (local(one).optimised - local(other).optimised).abs().max() < 0.1
    first, second = (pictures(e) for e in (one, other))
    assert set(first) == set(second) and ("latent_grid" in first) == (latent == 2)
    for name in {"traversal", "latent_grid", "samples", "reconstructions"} & set(first):
        assert (first[name].int() - second[name].int()).abs().max() <= 1, name
    assert torch.equal(first["traversal_units"], second["traversal_units"])
    assert (annealed(one).log_p - annealed(other).log_p).abs().max() < 3


class Far(Narrow):
    """N(3, SCALE^2 I), without quantiles in closed form."""

    def sample(self, n, q):
        return 3 + super().sample(n, q)

    def log_prob(self, z, q):
        return super().log_prob(z - 3, q)

    def quantile(self, u):
        return None


def test_a_plane_spans_the_models_own_prior(digits: Dataset) -> None:
    small = digits.subset(100, 40)
    model = VAE(digits.shape, Bernoulli(), prior=Far(2), latent=2, hidden=(8,)).eval().requires_grad_(False)
    asked: list[Tensor] = []
    model.decode = lambda z: (asked.append(z), VAE.decode(model, z))[1]
    assert "latent_grid" in pictures(Evaluation(model, small, 0, FIDELITIES["smoke"]))
    (z,) = [z for z in asked if len(z) == 225]
    reach = 3 + SCALE * torch.special.ndtri(torch.tensor([0.5 / 15, 14.5 / 15]))
    for unit in z.mT:
        assert [unit.min().item(), unit.max().item()] == pytest.approx(reach.tolist(), abs=0.005)
    assert z[0, 0] < z[-1, 0] and z[0, 1] > z[-1, 1], "right is up in z1, up is up in z2"


@pytest.mark.parametrize(("selector", "units"), [("vae[latent=4]", 4), ("vae-categorical[categories=4]", 0), ("mine", 0)])
def test_units_have_a_kl_of_their_own_if_the_kl_is_a_sum_over_them(selector: str, units: int, digits: Dataset) -> None:
    model = VAE(digits.shape, Bernoulli(), prior=Narrow(4), latent=4, hidden=(8,)) if selector == "mine" else build(selector, digits)
    e = Evaluation(model.eval().requires_grad_(False), digits.subset(100, 40), 0, FIDELITIES["smoke"])
    found: dict = {"rows": [], "series": {}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vae_variants.harness.measured.evaluate", lambda *_: [])
        patch.setattr("vae_variants.harness.measured.classifier", lambda *_: (SimpleNamespace(digest=""), 0.0))
        score(e, found)
    assert [len(each) for each in found["series"].get("kl_units", {}).values()] == [units] * (units > 0)


def test_a_unit_is_active_by_its_share_of_the_variance():
    between = torch.tensor([1.0, 0.25, 0.0102, 0.0100, 0.0])
    assert Variance(between, torch.ones(5)).active.tolist() == [True, True, True, False, False]
    for size in (1e-3, 1e3):
        assert Variance(size * between, size * torch.ones(5)).active.tolist() == [True, True, True, False, False]


class Skewed(Scored):
    """Log-normal latents: their mean is not that of q's parameters, and they have no closed form here."""

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        self.mean, self.scale = mean, scale

    def draw(self, k):
        z = (self.mean + self.scale * torch.randn(k, *self.mean.shape, dtype=torch.float64)).exp()
        return Drawn(z, self.log_prob(z))

    def log_prob(self, z):
        return torch.distributions.LogNormal(self.mean, self.scale).log_prob(z).sum(-1)

    def detached(self):
        return self


def test_the_variance_of_units_without_closed_form_is_that_of_samples_without_bias():
    class Model:
        def conditional(self, x):
            return Skewed(x, torch.tensor([0.5, 0.5], dtype=torch.float64))

    torch.manual_seed(0)
    x = torch.randn(40_000, 2, dtype=torch.float64) * torch.tensor([0.3, 0.0], dtype=torch.float64)
    found = variance(Model(), list(x.split(1000)))
    c = math.exp(0.25)  # of exp(N(m, s^2)) the mean is exp(m + s^2 / 2) and the variance exp(2 m + s^2) (exp(s^2) - 1)
    within = [math.exp(2 * 0.09) * c * (c - 1), c * (c - 1)]
    between = [c * math.exp(0.09) * (math.exp(0.09) - 1), 0.0]
    assert found.within.tolist() == pytest.approx(within, rel=0.05)
    assert found.between.tolist() == pytest.approx(between, rel=0.06, abs=2e-3)
    assert found.active.tolist() == [True, False]


def test_mutual_information_by_the_density_of_q_is_that_of_the_fast_path():
    e, _ = linear_evaluation(W2)
    x = e.test + torch.randn(len(e.test), 5, dtype=torch.float64)
    q = e.model.conditional(x)
    z = q.draw(1).z[0]
    expected = log_aggregate(z, q.mean, q.scale)
    for pairs in (2**23, 3 * z.numel()):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("vae_variants.evaluation.latent.PAIRS", pairs)
            torch.testing.assert_close(log_mixture(e.model, x, z, q.log_prob(z)), expected)


def test_the_total_correlation_of_a_gaussian_aggregate_is_its_formula():
    e, _ = linear_evaluation(W1)
    e.test = torch.randn(4000, 5, dtype=torch.float64) @ torch.randn(5, 5, dtype=torch.float64)
    mean, _ = e.model.moments(e.test)
    e.model.encoder[0].bias.data[2:] = mean.std(0).log()  # wide enough for few bumps to fill the aggregate
    covariance = torch.cov(mean.mT) + torch.diag(mean.var(0))
    expected = 0.5 * (covariance.diag().log().sum() - torch.logdet(covariance)).item()
    assert METRICS["total_correlation"].fn(e) == pytest.approx(expected, abs=0.12)
    assert expected > 0.02
