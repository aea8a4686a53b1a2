from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from vae_variants.checks.base import Failed
from vae_variants.checks.linear_gaussian import W1, W2, linear_vae
from vae_variants.checks.model import capabilities_keep_their_promises
from vae_variants.datasets import split
from vae_variants.evaluation import FIDELITIES, METRICS, Evaluation, Fidelity, Skip, evaluate
from vae_variants.evaluation.latent import log_aggregate
from vae_variants.evaluation.likelihood import bits_per_dim, elbo, log_likelihood
from vae_variants.evaluation.probe import probe_accuracy
from vae_variants.evaluation.reconstruction import reconstruction_mse
from vae_variants.models.references import PCA, Pixels
from vae_variants.training.population import Population
from vae_variants.variants import build

SMOKE = FIDELITIES["smoke"]


def linear_evaluation(weights, fidelity: Fidelity = SMOKE) -> tuple[Evaluation, float]:
    model, x, exact = linear_vae(weights)
    images = torch.zeros(90, 1, 1, 5, dtype=torch.uint8)
    e = Evaluation(model, split("flat", images, validation=20, test=20), 0, fidelity)
    e.test = x.expand(20, -1)
    return e, exact


def test_the_evaluator_finds_the_exact_log_likelihood():
    e, exact = linear_evaluation(W2)
    assert log_likelihood(e) == pytest.approx(exact, abs=1e-8)
    assert e.bound.ess.mean().item() == pytest.approx(SMOKE.bound_samples, abs=1e-4)


EXACT = {"vae-bernoulli": {"rate"}, "vae-linear": {"rate", "distortion", "gap", "log_likelihood"}}
EXACT["vae-categorical"] = EXACT["vae-linear"] | {"bits_per_dim"}


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("name", EXACT)
def test_what_is_called_exact_does_not_depend_on_the_noise(name, sampled, digits, monkeypatch):
    torch.manual_seed(3)
    model = build(f"{name}[hidden=8]" if name != "vae-linear" else name, digits).eval().requires_grad_(False)
    if sampled:
        sampled_kl(type(model), monkeypatch)
    here = digits.subset(None, 40)
    runs = [Evaluation(model, here, seed, replace(SMOKE, elbo_samples=3, bound_samples=3)) for seed in (0, 1)]
    asked = [METRICS[m] for m in ("rate", "distortion", "gap", "log_likelihood", "bits_per_dim") if METRICS[m].asked_of(runs[0])]
    exact = {m.name for m in asked if m.kind_for(model) == "exact"}
    assert exact == EXACT[name] - ({"rate", "distortion"} if sampled else set())
    values = {m.name: [m.fn(e) for e in runs] for m in asked}
    assert {m for m, (a, b) in values.items() if a == b} == exact


class Said(property):
    """An attribute with one value, whatever the parts of the model say."""

    def __init__(self, value: bool) -> None:
        super().__init__(lambda _: value, lambda *_: None)


def sampled_kl(cls: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives a model a KL that is estimated from its samples, as of a prior without a closed form."""
    infer = cls.infer

    def noisy(self, x, k, t):
        d = infer(self, x, k, t)
        kl = (d.log_qz - d.log_pz).mean(0)
        return d._replace(kl=kl, kl_units=kl.unsqueeze(-1))

    monkeypatch.setattr(cls, "infer", noisy)
    monkeypatch.setattr(cls, "closed_kl", Said(False))


def test_a_sampled_kl_is_part_of_the_monte_carlo_error_and_has_to_be_declared(digits, monkeypatch):
    torch.manual_seed(3)
    model = build("vae-bernoulli[hidden=8]", digits).eval().requires_grad_(False)
    here, sizes = digits.subset(None, 40), replace(SMOKE, bound_images=4, elbo_samples=100, bound_samples=100)
    closed = METRICS["monte_carlo_error"].fn(Evaluation(model, here, 0, sizes))
    sampled_kl(type(model), monkeypatch)
    e = Evaluation(model, here, 0, sizes)
    log_w = model.infer(e.test, 4000, torch.ones(())).log_w.double()
    assert e.elbo.variance.sum().item() == pytest.approx(log_w.var(0).sum().item() / 100, rel=0.1)
    assert METRICS["monte_carlo_error"].fn(e) != closed
    capabilities_keep_their_promises("vae")
    monkeypatch.setattr(type(model), "closed_kl", Said(True))
    with pytest.raises(Failed, match="closed_kl = False"):
        capabilities_keep_their_promises("vae")


def test_closed_forms_are_those_of_sums_in_float64(digits):
    """The gap against KL(q || posterior): of Gaussians by torch's own formula, of categories by enumeration."""
    for name in ("vae-linear", "vae-categorical[categories=5]"):
        torch.manual_seed(4)
        e = Evaluation(build(name, digits).eval().requires_grad_(False), digits.subset(None, 30), 0, SMOKE)
        model, x = deepcopy(e.model).double(), e.test.double()
        if name == "vae-linear":
            w, v, (mean, scale) = model.decoder.weight, model.likelihood.scale.square(), model.moments(x)
            precision = torch.eye(w.shape[1], dtype=torch.float64) + w.mT @ w / v
            centre = torch.linalg.solve(precision, ((x - model.decoder.bias) @ w / v).mT).mT
            p = torch.distributions.MultivariateNormal(centre, precision_matrix=precision)
            kl = torch.distributions.kl_divergence(torch.distributions.MultivariateNormal(mean, torch.diag_embed(scale.square())), p)
        else:
            log_px = torch.stack([model.log_px(x, code.expand(len(x), -1)) for code in torch.eye(5, dtype=torch.float64)], -1)
            q = torch.distributions.Categorical(logits=model.encoder(x))
            kl = torch.distributions.kl_divergence(q, torch.distributions.Categorical(logits=log_px))
        assert METRICS["gap"].fn(e) == pytest.approx(kl.mean().item(), abs=1e-8)
        assert next(e.model.parameters()).dtype == torch.float32, "the model stays as it is"


def test_bounds_come_in_order_and_the_elbo_is_minus_rate_minus_distortion():
    e, exact = linear_evaluation(W1, replace(SMOKE, elbo_samples=500, bound_samples=300))
    with torch.no_grad():
        e.model.encoder[0].bias += torch.tensor([0.3, -0.3, 0.3, 0.3], dtype=torch.float64)
    assert elbo(e) < log_likelihood(e) < exact + 0.02
    assert elbo(e) == pytest.approx(-METRICS["rate"].fn(e) - METRICS["distortion"].fn(e), abs=1e-12)
    assert METRICS["rate"].fn(e) == pytest.approx(e.model.infer(e.test, 1, torch.ones(())).kl.mean().item())
    assert 1 < e.bound.ess.mean() < 300


def test_a_bound_known_for_some_images_is_corrected_to_all():
    e, _ = linear_evaluation(W1, replace(SMOKE, bound_images=5, elbo_samples=2000, bound_samples=400))
    with torch.no_grad():
        e.model.encoder[0].bias[2:] += 0.3
    shifted = e.test.clone()
    shifted[1::2] += 3.0  # images that are all alike but for some that are far less likely
    e.test = shifted
    every = Evaluation.__new__(Evaluation)
    every.__dict__.update({k: v for k, v in e.__dict__.items() if k not in ("elbo", "bound")})
    every.fidelity = replace(e.fidelity, bound_images=20)
    assert abs(e.bound.value.mean() - every.bound.value.mean()) > 1
    assert log_likelihood(e) == pytest.approx(log_likelihood(every), abs=0.15)


def test_the_monte_carlo_error_is_the_spread_over_noise():
    values, errors = [], []
    for seed in range(60):
        e, _ = linear_evaluation(W1, replace(SMOKE, bound_images=8, elbo_samples=4, bound_samples=60))
        e.seed = seed
        with torch.no_grad():
            e.model.encoder[0].bias += torch.tensor([0.3, -0.3, 0.3, 0.3], dtype=torch.float64)
        values.append(log_likelihood(e))
        errors.append(METRICS["monte_carlo_error"].fn(e))
    assert torch.tensor(values).std().item() == pytest.approx(sum(errors) / 60, rel=0.3)


def test_chunks_do_not_change_the_bound(monkeypatch):
    from vae_variants.evaluation import evaluation

    found = []
    for elements in (2**21, 3000):
        monkeypatch.setattr(evaluation, "ELEMENTS", elements)
        e, _ = linear_evaluation(W1, replace(SMOKE, bound_samples=2000))
        found.append(log_likelihood(e))
    assert found[0] == pytest.approx(found[1], abs=0.01)


def test_bits_per_dim(digits):
    model = next(Population(lambda: build("made[hidden=8]", digits), (0,)).members())
    e = Evaluation(model, digits.subset(50, 20), 0, SMOKE)
    assert bits_per_dim(e) == pytest.approx(-log_likelihood(e) / 64 / math.log(2))


# -- images ------------------------------------------------------------------------------------------------------------


def fitted(model, dataset):
    model.initialise(dataset.grey("train"))
    return Evaluation(model, dataset, 0, SMOKE)


@pytest.mark.parametrize("latent", [5, 40])
def test_pca_of_fewer_images_than_pixels_is_that_of_all_directions(latent):
    x = torch.rand(30, 64, generator=torch.Generator().manual_seed(0))
    few, padded = PCA((1, 8, 8), latent=latent), PCA((1, 8, 8), latent=latent)
    few.initialise(x)
    padded.initialise(torch.cat([x, x, x]))  # with as many directions as pixels, and the same ones
    assert torch.allclose(few.decode(few.encode(x)), padded.decode(padded.encode(x)), atol=1e-5)
    assert few.components.shape == (latent, 64)


def test_pca_loses_the_variance_of_the_components_left_out(digits):
    everything = replace(digits, test=digits.train, labels=None)
    e = fitted(PCA(digits.shape, latent=20), everything)
    x = digits.grey("train").double()
    values = torch.linalg.eigvalsh((x - x.mean(0)).T @ (x - x.mean(0)) / len(x))
    assert reconstruction_mse(e) == pytest.approx(values[:-20].sum().item() / 64, rel=1e-4)


def test_the_probe_reads_pixels_and_not_shuffled_labels(digits):
    honest = probe_accuracy(Evaluation(Pixels(digits.shape), digits, 0, SMOKE))
    assert 0.93 < honest < 0.99
    labels = {name: y[torch.randperm(len(y))] for name, y in digits.labels.items()}
    shuffled = probe_accuracy(Evaluation(Pixels(digits.shape), replace(digits, labels=labels), 0, SMOKE))
    assert shuffled < 0.1 + 4 * math.sqrt(0.09 / 300)


def test_the_probe_is_skipped_without_labels(digits):
    e = Evaluation(Pixels(digits.shape), replace(digits, labels=None), 0, SMOKE)
    with pytest.raises(Skip, match="no labels"):
        probe_accuracy(e)
    (row,) = [v for v in evaluate(e) if v.metric == "probe_accuracy"]
    assert (row.status, row.value) == ("skipped", None)


def test_a_metric_that_fails_is_a_row_with_its_reason(digits):
    class Broken(Pixels):
        def encode(self, x):
            raise RuntimeError("no codes today")

    rows = {v.metric: v for v in evaluate(Evaluation(Broken(digits.shape), digits, 0, SMOKE))}
    assert rows["probe_accuracy"].status == "error"
    assert "no codes today" in rows["probe_accuracy"].reason


def test_noise_depends_on_data_and_seed_and_leaves_the_global_stream_alone(digits):
    def drawn(dataset, seed):
        e = Evaluation(Pixels(dataset.shape), dataset, seed, SMOKE)
        with e.noise("a"):
            return torch.rand(3)

    before = torch.random.get_rng_state()
    first = drawn(digits, 0)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first, drawn(digits, 0))
    assert not torch.equal(first, drawn(digits, 1))
    assert not torch.equal(first, drawn(digits.subset(50, 20), 0))


def test_mutual_information_is_that_of_a_known_channel():
    from vae_variants.evaluation.latent import information, information_ceiling, marginal_kl, mutual_information

    e, _ = linear_evaluation(W2)
    n = 2000
    e.test = 3.0 * torch.randn(n, 5, dtype=torch.float64)
    found = mutual_information(e)
    mean, scale = e.model.moments(e.test)
    spread_of = torch.cov(mean.mT) + torch.diag(scale[0].square())  # z is nearly Gaussian, since x is
    expected = 0.5 * (torch.logdet(spread_of) - scale[0].square().log().sum()).item()
    assert found == pytest.approx(expected, abs=0.1)
    assert found < math.log(n) == information_ceiling(e)
    law, prior = (
        torch.distributions.MultivariateNormal(m, c)
        for m, c in ((mean.mean(0), spread_of), (torch.zeros(2).double(), torch.eye(2).double()))
    )
    assert marginal_kl(e) == pytest.approx(torch.distributions.kl_divergence(law, prior).item(), abs=0.15)
    information.cache_clear()
    e.model.encoder[0].weight.data.zero_()  # codes that know nothing of the image
    assert mutual_information(e) == pytest.approx(0, abs=1e-6)
    information.cache_clear()
    e.model.encoder[0].weight.data[:2] = 1e9  # codes that know everything: the estimate cannot exceed log n
    assert mutual_information(e) == pytest.approx(math.log(n), abs=1e-6)
    assert mutual_information(e) <= math.log(n)


@pytest.mark.parametrize("shift", [0.0, 50.0, 1e7])
@pytest.mark.parametrize("narrow", [1.0, 1e-2, 1e-7])  # the last is too narrow for squares that are multiplied out
def test_the_density_of_the_aggregate_is_that_of_a_mixture(shift: float, narrow: float):
    mean, scale = shift + torch.randn(1200, 4, dtype=torch.float64), narrow * (0.2 + torch.rand(1200, 4, dtype=torch.float64))
    z = mean + scale * torch.randn_like(mean)
    z[:100] = z[600:700]  # codes that another image explains better
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(1200, dtype=torch.float64)),
        torch.distributions.Independent(torch.distributions.Normal(mean, scale), 1),
    )
    torch.testing.assert_close(log_aggregate(z, mean, scale), mixture.log_prob(z), atol=1e-6, rtol=1e-9)


def test_clusters_of_codes_that_tell_the_class_agree_with_it(digits):
    from vae_variants.evaluation.latent import clustering_score

    e = Evaluation(Pixels(digits.shape), digits, 0, SMOKE)
    told = {name: torch.nn.functional.one_hot(y, 10).double() for name, y in digits.labels.items()}
    e.codes = {name: codes + 0.01 * torch.randn_like(codes) for name, codes in told.items()}
    assert clustering_score(e) == pytest.approx(1)
    e.codes = {name: torch.randn(len(y), 3, dtype=torch.float64) for name, y in digits.labels.items()}
    assert abs(clustering_score(e)) < 0.1
