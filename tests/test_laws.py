"""Laws that hold for everything in the registries, known answers beside them."""

from __future__ import annotations

import itertools
import math
from functools import partial

import pytest
import torch
from scipy import stats
from torch import Tensor

from vae_variants.datasets import DATASETS, Dataset
from vae_variants.likelihoods import LIKELIHOODS, Gaussian, Likelihood, Support
from vae_variants.model import MODELS, Coder, Density, Encoder, LatentVariable, MeanSampler, Model, Sampler
from vae_variants.models.made import MADE
from vae_variants.models.vae import VAE
from vae_variants.objectives import OBJECTIVES, Draws, elbo, elbo_sampled, iwae
from vae_variants.training import Population, Recipe, Training
from vae_variants.variants import VARIANTS, Configuration, build, configure

LEVELS = 5


def make(name: str) -> Likelihood:
    cls = LIKELIHOODS[name]
    try:
        return cls(levels=LEVELS).double()
    except TypeError:
        return cls().double()


def logits(likelihood: Likelihood, n: int, pixels: int = 1) -> Tensor:
    return 2.5 * torch.randn(n, pixels * likelihood.k, dtype=torch.float64)


def support_points(likelihood: Likelihood) -> tuple[Tensor, Tensor]:
    """Points of the support and the weight of each in a sum or integral, (P,), (P,)."""
    if likelihood.support is Support.BINARY:
        x = torch.tensor([0.0, 1.0], dtype=torch.float64)
        return x, torch.ones_like(x)
    if likelihood.support is Support.BYTE:
        x = torch.linspace(0, 1, LEVELS, dtype=torch.float64)
        return x, torch.ones_like(x)
    low, high = (0.0, 1.0) if likelihood.support is Support.UNIT else (-30.0, 30.0)
    x = torch.linspace(low, high, 200_001, dtype=torch.float64)
    weight = torch.full_like(x, (high - low) / 200_000)
    weight[0] = weight[-1] = weight[0] / 2
    return x, weight


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_likelihood_is_normalised(name: str) -> None:
    likelihood = make(name)
    x, weight = support_points(likelihood)
    h = logits(likelihood, 8).unsqueeze(1)
    with torch.no_grad():
        total = (likelihood.log_prob(h.expand(-1, len(x), -1), x.unsqueeze(-1)).exp() * weight).sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total), atol=2e-6, rtol=0)


ORACLES = {
    "bernoulli": lambda m, h: torch.distributions.Bernoulli(logits=h),
    "continuous-bernoulli": lambda m, h: torch.distributions.ContinuousBernoulli(logits=h, lims=(0.4999, 0.5001)),
    "gaussian": lambda m, h: torch.distributions.Normal(h, m.sigma),
    "gaussian-learnt": lambda m, h: torch.distributions.Normal(h, m.log_sigma.exp()),
}


@pytest.mark.parametrize("name", ORACLES)
def test_a_likelihood_agrees_with_torch_distributions(name: str) -> None:
    likelihood = make(name)
    if name == "gaussian":
        likelihood = Gaussian(0.3)
    if name == "gaussian-learnt":
        torch.nn.init.constant_(likelihood.log_sigma, -0.7)
    h = logits(likelihood, 50, pixels=3)
    x = likelihood.sample(h).detach()
    law = ORACLES[name](likelihood, h)
    torch.testing.assert_close(likelihood.log_prob(h, x), law.log_prob(x).sum(-1), atol=1e-7, rtol=1e-9)
    torch.testing.assert_close(likelihood.mean(h), law.mean, atol=1e-7, rtol=1e-7)


def test_categorical_agrees_with_torch_distributions() -> None:
    likelihood = make("categorical")
    h = logits(likelihood, 50, pixels=3)
    x = likelihood.sample(h)
    law = torch.distributions.Categorical(logits=h.reshape(50, 3, LEVELS))
    torch.testing.assert_close(likelihood.log_prob(h, x), law.log_prob((x * (LEVELS - 1)).round()).sum(-1))


def test_discretized_logistic_is_a_difference_of_cdfs() -> None:
    likelihood = make("discretized-logistic")
    h = logits(likelihood, 40)
    location, scale = h[:, 0].sigmoid(), (h[:, 1] - 2).exp()
    for j in range(LEVELS):
        x = j / (LEVELS - 1)
        upper = torch.ones(40) if j == LEVELS - 1 else ((x + 0.125 - location) / scale).sigmoid()
        lower = torch.zeros(40) if j == 0 else ((x - 0.125 - location) / scale).sigmoid()
        found = likelihood.log_prob(h, torch.full((40, 1), x, dtype=torch.float64)).exp()
        torch.testing.assert_close(found, (upper - lower).double(), atol=1e-9, rtol=1e-5)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_likelihood_samples_what_it_scores(name: str) -> None:
    likelihood = make(name)
    x, weight = support_points(likelihood)
    for h in logits(likelihood, 3):
        with torch.no_grad():
            p = likelihood.log_prob(h.expand(len(x), -1), x.unsqueeze(-1)).exp() * weight
            drawn = likelihood.sample(h.expand(20_000, -1)).squeeze(-1)
            mean = likelihood.mean(h)
        assert mean.item() == pytest.approx((p * x).sum().item(), abs=1e-5)
        if likelihood.support.discrete:
            counts = torch.stack([(drawn - point).abs() < 1e-6 for point in x]).sum(-1)
            assert counts.sum() == len(drawn)
            likely = p * len(drawn) > 5
            spread = torch.sqrt(p * (1 - p) * len(drawn))
            assert ((counts - p * len(drawn)).abs() < 5 * spread)[likely].all()
        else:
            cdf = (p.cumsum(0) - p / 2).numpy()
            assert stats.kstest(drawn.numpy(), lambda q, x=x, cdf=cdf: __import__("numpy").interp(q, x.numpy(), cdf)).pvalue > 1e-4


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_likelihood_sums_over_pixels_that_lie_side_by_side(name: str) -> None:
    likelihood = make(name)
    h = logits(likelihood, 6, pixels=3)
    x = likelihood.sample(h).detach()
    assert x.shape == (6, 3)
    assert likelihood.mean(h).shape == (6, 3)
    apart = sum(likelihood.log_prob(h[:, i * likelihood.k : (i + 1) * likelihood.k], x[:, i : i + 1]) for i in range(3))
    torch.testing.assert_close(likelihood.log_prob(h, x), apart)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_likelihood_is_finite_far_out_with_its_gradient(name: str) -> None:
    likelihood = make(name).float()
    h = torch.tensor([-80.0, -1e-6, 0.0, 1e-6, 80.0]).unsqueeze(-1).repeat(1, likelihood.k).requires_grad_()
    for x in (0.0, 1.0):
        value = likelihood.log_prob(h, torch.full((5, 1), x))
        (gradient,) = torch.autograd.grad(value.sum(), h)
        assert value.isfinite().all()
        assert gradient.isfinite().all()


def test_a_gaussian_of_sigma_one_has_its_constant() -> None:
    x = torch.zeros(784, dtype=torch.float64)
    assert -Gaussian(1.0).log_prob(x, x).item() == pytest.approx(392 * math.log(2 * math.pi), abs=1e-9)


# -- bounds ------------------------------------------------------------------------------------------------------------

W1 = [[1, 0.5], [0, 1], [-1, 0.5], [0.5, -0.5], [0, 2]]
W2 = [[1, 0], [0, 1], [-1, 0], [0, -0.5], [1, 0]]
MU, X, VARIANCE = [0.1, -0.2, 0.3, 0.0, 0.5], [1.0, -1.0, 0.5, 2.0, 0.0], 0.25


def linear_vae(weights: list[list[float]]) -> tuple[VAE, Tensor, float]:
    """A linear-Gaussian VAE whose q has the exact posterior mean and the best diagonal scales; x; the exact log p(x)."""
    w, mu = torch.tensor(weights, dtype=torch.float64), torch.tensor(MU, dtype=torch.float64)
    x = torch.tensor([X], dtype=torch.float64)
    model = VAE((1, 1, 5), Gaussian(math.sqrt(VARIANCE)), latent=2, hidden=()).double()
    precision = torch.eye(2, dtype=torch.float64) + w.T @ w / VARIANCE
    gain = torch.linalg.solve(precision, w.T) / VARIANCE
    with torch.no_grad():
        model.decoder[0].weight.copy_(w)
        model.decoder[0].bias.copy_(mu)
        model.encoder[0].weight.copy_(torch.cat([gain, torch.zeros(2, 5, dtype=torch.float64)]))
        model.encoder[0].bias.copy_(torch.cat([-gain @ mu, -0.5 * precision.diag().log()]))
    covariance = w @ w.T + VARIANCE * torch.eye(5, dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(mu, covariance).log_prob(x).item()
    return model, x, exact


def draws(model: VAE, x: Tensor, k: int) -> Draws:
    with torch.no_grad():
        return model.infer(x, k, torch.ones((), dtype=x.dtype))


def test_the_fixtures_are_those_of_the_literature_of_this_project() -> None:
    assert linear_vae(W1)[2] == pytest.approx(-11.587021175172655, abs=1e-10)
    assert linear_vae(W2)[2] == pytest.approx(-10.442695791953048, abs=1e-10)


def test_bounds_touch_log_p_at_the_true_posterior() -> None:
    model, x, exact = linear_vae(W2)
    for k in (1, 5, 50):
        d = draws(model, x, k)
        torch.testing.assert_close(d.log_w, torch.full_like(d.log_w, exact), atol=1e-9, rtol=0)
        assert -iwae(d).item() == pytest.approx(exact, abs=1e-9)
        assert -elbo_sampled(d).item() == pytest.approx(exact, abs=1e-9)


def test_the_gap_of_the_elbo_is_the_kl_to_the_posterior() -> None:
    model, x, exact = linear_vae(W1)
    found = -elbo(draws(model, x, 2_000_000)).item()
    assert exact - found == pytest.approx(0.0020876857052405384, abs=0.01)
    sampled = draws(model, x, 2_000_000).log_w
    assert exact - sampled.mean().item() == pytest.approx(0.0020876857052405384, abs=5 * sampled.std().item() / 2e6**0.5)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("k", [1, 8])
def test_every_objective_is_a_bound_when_training_ends(name: str, k: int) -> None:
    model, x, exact = linear_vae(W1)
    with torch.no_grad():
        model.encoder[0].bias += torch.tensor([0.1, -0.1, 0.3, -0.4], dtype=torch.float64)
    d = draws(model, x.expand(20_000, -1), k)
    value = -OBJECTIVES[name](d)
    error = value.std().item() / math.sqrt(value.numel()) if value.numel() > 1 else 0.0
    assert value.mean().item() < exact + 4 * error


def test_iwae_of_one_sample_is_the_sampled_elbo_and_grows_with_k() -> None:
    model, x, exact = linear_vae(W1)
    with torch.no_grad():
        model.encoder[0].bias += torch.tensor([0.3, -0.3, 0.4, 0.4], dtype=torch.float64)
    d = draws(model, x.expand(4000, -1), 1)
    torch.testing.assert_close(iwae(d), elbo_sampled(d))
    values = [-iwae(draws(model, x.expand(4000, -1), k)).mean().item() for k in (1, 4, 16, 64)]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(exact, abs=0.02)


def given(log_w: Tensor) -> Draws:
    zero = torch.zeros_like(log_w)
    return Draws(log_w, zero, zero, zero[0], zero[0].unsqueeze(-1), zero.unsqueeze(-1), torch.ones(()))


@pytest.mark.parametrize(("k", "expected"), [(1, -0.577216), (2, -0.270363), (5, -0.103320), (10, -0.050833)])
def test_iwae_has_the_known_bias_on_exponential_weights(k: int, expected: float) -> None:
    log_w = torch.empty(k, 400_000, dtype=torch.float64).exponential_().log()
    value = -iwae(given(log_w))
    assert value.mean().item() == pytest.approx(expected, abs=5 * value.std().item() / 400_000**0.5)


def test_more_samples_do_not_move_the_elbo() -> None:
    model, x, _ = linear_vae(W1)
    one, many = (-elbo(draws(model, x.expand(20_000, -1), k)) for k in (1, 8))
    spread = math.hypot(one.std().item(), many.std().item()) / math.sqrt(20_000)
    assert abs(one.mean().item() - many.mean().item()) < 4 * spread
    assert many.std().item() == pytest.approx(one.std().item() / math.sqrt(8), rel=0.05)


def test_the_closed_form_kl_is_the_sampled_one() -> None:
    model, x, _ = linear_vae(W1)
    with torch.no_grad():
        model.encoder[0].bias += torch.tensor([0.5, -0.5, 0.4, 0.8], dtype=torch.float64)
    d = draws(model, x, 400_000)
    sampled = (d.log_qz - d.log_pz).squeeze(1)
    assert sampled.mean().item() == pytest.approx(d.kl.item(), abs=5 * sampled.std().item() / 400_000**0.5)
    torch.testing.assert_close(d.kl_units.sum(-1), d.kl)


# -- models ------------------------------------------------------------------------------------------------------------

SMALL = {"hidden": [7], "latent": 3, "batch": 10, "epochs": 2}


def configuration(name: str, **options: object) -> Configuration:
    (found,) = configure(name, {**SMALL, **options})
    return found


def model_of(name: str, dataset: Dataset, **options: object) -> Model:
    return build(configuration(name, **options), dataset)


@pytest.mark.parametrize("name", MODELS)
def test_each_players_loss_reaches_each_of_its_parameters(name: str, tiny: Dataset) -> None:
    model = model_of(name, tiny)
    x = tiny.as_(model.support).test.round()
    owned: set[str] = set()
    for player in model.players:
        mine = {n: p for n, p in model.named_parameters() if n.startswith(player.prefix)}
        assert mine
        assert not owned & set(mine)
        owned |= set(mine)
        gradients = torch.autograd.grad(model(player.loss, x, torch.ones(())), list(mine.values()))
        for n, gradient in zip(mine, gradients, strict=True):
            assert gradient.isfinite().all(), n
            assert gradient.abs().sum() > 0, n
    assert owned == {n for n, _ in model.named_parameters()} or not model.players


@pytest.mark.parametrize("name", MODELS)
def test_capabilities_keep_their_promises(name: str, tiny: Dataset) -> None:
    population = Population(lambda: model_of(name, tiny), (0,))
    data = tiny.as_(population.template.support)
    population.initialise(data.train)
    model, x = next(population.members()), data.test
    if isinstance(model, Sampler):
        drawn = model.sample(6)
        assert drawn.shape == (6, 10)
        if model.support is Support.BINARY:
            assert set(drawn.unique().tolist()) <= {0.0, 1.0}
        if model.support is Support.BYTE:
            torch.testing.assert_close((drawn * 3).round() / 3, drawn)
    if isinstance(model, MeanSampler):
        assert model.sample_mean(6).shape == (6, 10)
    if isinstance(model, Density):
        assert model.log_prob(x).shape == (len(x),)
    if isinstance(model, LatentVariable):
        d = model.infer(x, 4, torch.ones(()))
        assert d.log_w.shape == (4, len(x))
        assert d.kl.shape == (len(x),)
        assert d.z.shape[:2] == d.log_w.shape
        torch.testing.assert_close(d.kl_units.sum(-1), d.kl)
    if isinstance(model, Encoder):
        z = model.encode(x)
        assert z.ndim == 2
        torch.testing.assert_close(model.encode(x), z)
        if isinstance(model, Coder):
            assert model.decode(z).shape == x.shape


EXACT = [name for name, cls in MODELS.items() if issubclass(cls, Density) and getattr(cls, "exact", False)]


def roughened(model: Model) -> Model:
    """In float64, with weights large enough for the order of the pixels to matter."""
    model = model.double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p))
    return model


def all_binary(d: int) -> Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=d)), dtype=torch.float64)


def exact_models(tiny: Dataset) -> list[tuple[str, Model]]:
    found = [(name, model_of(name, tiny)) for name in EXACT]
    found = [(name, model) for name, model in found if model.support is Support.BINARY]
    return [*found, ("made, 4 orders", MADE((1, 2, 5), hidden=(9,), orders=4)), ("made, deep", MADE((1, 2, 5), hidden=(12, 9), orders=2))]


def test_exact_densities_sum_to_one(tiny: Dataset) -> None:
    for name, model in exact_models(tiny):
        total = roughened(model).log_prob(all_binary(10)).logsumexp(0).item()
        assert total == pytest.approx(0.0, abs=1e-9), name


def test_a_mean_of_logits_over_orders_is_not_a_density() -> None:
    model = roughened(MADE((1, 2, 5), hidden=(9,), orders=4))
    x = all_binary(10)
    h = torch.stack([model.logits(x, model.mask_in[r], model.mask_out[r]) for r in range(4)]).mean(0)
    wrong = (x * h - torch.nn.functional.softplus(h)).sum(-1).logsumexp(0).item()
    assert abs(wrong) > 1e-3


def test_a_pixel_depends_on_those_before_it_alone() -> None:
    for model in (MADE((1, 2, 5), hidden=(12, 9), orders=3), MODELS["fvbn"]((1, 2, 5))):
        model = roughened(model)
        for r in range(getattr(model, "orders", 1)):
            logits = (
                partial(model.logits, mask_in=model.mask_in[r], mask_out=model.mask_out[r]) if isinstance(model, MADE) else model.logits
            )
            rank = model.ranks[r] if isinstance(model, MADE) else torch.arange(10)
            jacobian = torch.autograd.functional.jacobian(logits, torch.rand(10, dtype=torch.float64))
            later = rank[None, :] >= rank[:, None]
            assert jacobian[later].abs().max() == 0
            assert (jacobian[~later].abs() > 0).float().mean() > 0.5


def test_ancestral_samples_follow_the_density() -> None:
    for cls in (MADE, MODELS["fvbn"]):
        for orders in (1, 3) if cls is MADE else (1,):
            model = roughened(cls((1, 2, 2), hidden=(6,), orders=orders) if cls is MADE else cls((1, 2, 2)))
            with torch.no_grad():
                p = model.log_prob(all_binary(4)).exp()
                index = (model.sample(20_000) * torch.tensor([8, 4, 2, 1])).sum(-1).long()
            counts = torch.bincount(index, minlength=16)
            assert ((counts - 20_000 * p).abs() <= 5 * torch.sqrt(20_000 * p * (1 - p)) + 1).all()


STACKED = [name for name, cls in MODELS.items() if cls.stackable and cls.players]


OTHERS = ["vae[objective=iwae,samples=3]", "vae[objective=stl]", "vae[objective=dreg,samples=3]", "made[orders=3]"]


@pytest.fixture(params=["plain", "traced"])
def traced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few the steps are."""
    monkeypatch.setattr("vae_variants.training.FEW", 0 if request.param == "traced" else 10**9)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("name", [*STACKED, *OTHERS, "vae[network=conv,hidden=8]"])
def test_three_stacked_seeds_are_three_separate_ones(name: str, digits: Dataset) -> None:
    small = digits.subset(60, 20)
    chosen = configuration(name)
    data = small.as_(chosen.support)

    def trained(seeds: tuple[int, ...]) -> dict[str, Tensor]:
        population = Population(lambda: build(chosen, small).double(), seeds, randomness="same")
        training = Training(population, data, Recipe(1, 10, 1e-2), "key")
        for step, x in enumerate(training.batches()):
            for i in range(len(training.players)):
                torch.manual_seed(100 * step + i)
                training.turn(i, x.double(), torch.tensor(0.5, dtype=torch.float64))
        return {name: tensor.clone() for name, tensor in population.state().items()}

    together = trained((0, 1, 2))
    for i, seed in enumerate((0, 1, 2)):
        for n, tensor in trained((seed,)).items():
            torch.testing.assert_close(tensor[0], together[n][i], atol=1e-9, rtol=1e-7, msg=lambda m, n=n: f"{n}: {m}")
    assert not torch.equal(next(iter(together.values()))[0], next(iter(together.values()))[1])


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("name", ["vae", "gan", "made[orders=3]", "vae[objective=warm-up]"])
def test_a_resumed_training_is_the_uninterrupted_one(name: str, digits: Dataset) -> None:
    small = digits.subset(100, 20)
    chosen = configuration(name)
    data = small.as_(chosen.support)

    def new() -> Training:
        return Training(Population(lambda: build(chosen, small), (0, 3)), data, Recipe(4, 20, 1e-3), "key")

    whole, first, second = new(), new(), new()
    curves = [whole.run_epoch() for _ in range(4)]
    for _ in range(2):
        first.run_epoch()
    second.restore({n: t.clone() for n, t in first.state().items()})
    torch.rand(3)
    assert [second.run_epoch() for _ in range(2)] == curves[2:]
    for n, tensor in whole.state().items():
        if n != "seconds":
            assert torch.equal(tensor, second.state()[n]), n


@pytest.mark.usefixtures("traced")
def test_one_diverging_seed_leaves_the_others_as_they_are(digits: Dataset) -> None:
    small = digits.subset(100, 20)
    chosen = configuration("vae")

    def trained(poison: bool) -> Training:
        training = Training(Population(lambda: build(chosen, small), (0, 1)), small.as_(chosen.support), Recipe(2, 20, 1e-3), "key")
        if poison:
            with torch.no_grad():
                next(iter(training.population.params.values()))[0] = math.nan
        training.run_epoch()
        return training

    healthy, poisoned = trained(False), trained(True)
    assert poisoned.diverged == {0: 1}
    for n, tensor in healthy.population.state().items():
        assert torch.equal(tensor[1], poisoned.population.state()[n][1])


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_can_be_built_and_says_what_it_is(name: str, digits: Dataset) -> None:
    variant = VARIANTS[name]
    assert len(variant.description) > 10
    assert variant.reference or name.startswith("reference-")
    (found,) = configure(name)
    model = build(found, digits)
    assert model.shape == digits.shape
    assert model.support is found.support


@pytest.mark.parametrize("name", [n for n in DATASETS if n not in ("npz", "images")])
def test_every_data_set_says_what_it_is(name: str) -> None:
    assert len(DATASETS.describe(name)) > 20
