"""Autoregressive models against enumeration and sources of known entropy; metrics of data of which the answer is known.

Beside these, `test_densities` has the sum over all images, the negative control (a mean of logits over orders) and the Jacobian of deep
networks; `test_distance` distances of normal laws and those of other implementations; `test_evaluation` the variance of the
Laplacian, the probe on shuffled labels and mutual information.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import pytest
import torch
from scipy import stats
from torch import Tensor

from tests.evaluation.test_evaluation import linear_evaluation
from vae_variants.checks.linear_gaussian import W2
from vae_variants.checks.model import all_binary, roughened
from vae_variants.datasets import Dataset
from vae_variants.evaluation import METRICS
from vae_variants.evaluation.feature_sets import prdc
from vae_variants.evaluation.weights import log_mean_exp
from vae_variants.models.base import Density, Model
from vae_variants.models.chains import Chain
from vae_variants.models.fvbn import FVBN
from vae_variants.models.likelihoods import Bernoulli
from vae_variants.models.made import MADE
from vae_variants.models.nade import NADE, EoNADE
from vae_variants.models.pixelcnn import GatedPixelCNN, PixelCNN

F64 = {"dtype": torch.float64}

# -- autoregressive models -------------------------------------------------------------------------------------------------

MADES = {
    "one layer": partial(MADE, hidden=(9,)),
    "narrow": partial(MADE, hidden=(2,)),
    "deep": partial(MADE, hidden=(12, 9, 7), orders=3),
    "orders": partial(MADE, hidden=(20,), orders=5),
}
CHAINS = {**MADES, "fvbn": FVBN, "nade": partial(NADE, hidden=(9, 7)), "eonade": partial(EoNADE, hidden=(9,), orders=3)}
CAUSAL = {
    "pixelcnn": partial(PixelCNN, likelihood=Bernoulli(), features=6, layers=2, kernel=3),
    "gated-pixelcnn": partial(GatedPixelCNN, likelihood=Bernoulli(), features=6, layers=2, kernel=3),
}
EXACT = {**CHAINS, **CAUSAL}


@pytest.mark.parametrize("build", CHAINS.values(), ids=CHAINS)
def test_the_cached_sampler_draws_what_the_naive_one_does(build) -> None:
    model = roughened(build((1, 2, 5)))
    drawn = []
    for sample in (model.sample, model.sample_naively):
        torch.manual_seed(3)
        with torch.no_grad():
            drawn.append(sample(400))
    assert torch.equal(*drawn)
    assert (drawn[0].var(0) > 0.01).sum() > 5


@pytest.mark.parametrize("hidden", [(1,), (3,), (8,), (8, 5), (4, 8, 8)])
def test_no_order_of_pixels_lets_one_see_itself_or_a_later_one(hidden) -> None:
    model = roughened(MADE((1, 2, 2), hidden=hidden, orders=400))
    assert len({tuple(row) for row in model.ranks.tolist()}) == math.factorial(4)
    for r in range(model.orders):
        logits = partial(model.logits, mask_in=model.mask_in[r], mask_out=model.mask_out[r])
        jacobian = torch.autograd.functional.jacobian(logits, torch.rand(4, **F64))
        assert jacobian[model.ranks[r][None, :] >= model.ranks[r][:, None]].abs().max() == 0


def chain(model: Model, x: Tensor) -> Tensor:
    """log p(x) as a product of conditionals, each from a pass that is shown noise in place of the pixels to come, (B,)."""
    assert isinstance(model, Chain)
    orders = getattr(model, "orders", 1)
    networks, ranks = [partial(model.chain, r=r) for r in range(orders)], [model.order(r).argsort() for r in range(orders)]
    joints = []
    for network, rank in zip(networks, ranks, strict=True):
        total = torch.zeros(len(x), **F64)
        for i in rank.argsort().tolist():
            seen = torch.where(rank < rank[i], x, torch.randn_like(x))
            p = network(seen)[:, i].sigmoid()
            total += torch.where(x[:, i] == 1, p, 1 - p).log()
        joints.append(total)
    return log_mean_exp(torch.stack(joints))


@pytest.mark.parametrize("build", CHAINS.values(), ids=CHAINS)
def test_the_density_of_a_sample_is_the_product_of_its_conditionals(build) -> None:
    model = roughened(build((1, 2, 5)))
    with torch.no_grad():
        x = model.sample(50)
        torch.testing.assert_close(model.log_prob(x), chain(model, x))
        assert model.log_prob(all_binary(10)).logsumexp(0).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("build", EXACT.values(), ids=EXACT)
def test_samples_have_the_frequencies_of_the_density(build) -> None:
    model, n = roughened(build((1, 1, 6))), 20_000
    with torch.no_grad():
        expected = n * model.log_prob(all_binary(6)).exp()
        x = model.sample(n)

    def p_value(x: Tensor) -> float:
        counts = torch.bincount((x @ torch.tensor([32.0, 16, 8, 4, 2, 1], **F64)).long(), minlength=64).double()
        rare = expected < 5
        cells = [torch.cat([t[~rare], t[rare].sum()[None]]) for t in (counts, expected)]
        return stats.chisquare(*(t[cells[1] > 0].numpy() for t in cells)).pvalue

    assert p_value(x) > 1e-3
    assert p_value(x.flip(1)) < 1e-6


# -- sources of known entropy ------------------------------------------------------------------------------------------------


class Source(NamedTuple):
    """All images that it can emit (M, D), and their log probabilities (M,)."""

    x: Tensor
    log_p: Tensor

    @property
    def entropy(self) -> float:
        return -(self.log_p.exp() * self.log_p).sum().item()

    def draw(self, n: int) -> Tensor:
        return self.x[torch.multinomial(self.log_p.exp(), n, replacement=True)]


def parity() -> Source:
    """Six fair bits, and six that are each the parity of three of them drawn at random."""
    triples = [torch.randperm(6)[:3] for _ in range(6)]
    free = all_binary(6)
    return Source(torch.cat([free, torch.stack([free[:, t].sum(-1) % 2 for t in triples], 1)], 1), torch.full((64,), -math.log(64), **F64))


def markov(*chains: tuple[float, float]) -> Source:
    """Sixteen bits; an equal mixture of chains that start fair, each with its probabilities of a 1 after a 0 and after a 1."""
    x, joints = all_binary(16), []
    for after in chains:
        p = torch.tensor(after, **F64)[x[:, :-1].long()]
        joints.append(torch.where(x[:, 1:] == 1, p, 1 - p).log().sum(-1) - math.log(2))
    return Source(x, log_mean_exp(torch.stack(joints)))


ONE_CHAIN, TWO_CHAINS = partial(markov, (0.1, 0.9)), partial(markov, (0.1, 0.6), (0.5, 0.9))


def test_sources_have_their_entropies() -> None:
    assert parity().entropy == pytest.approx(6 * math.log(2), abs=1e-12)
    one = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert ONE_CHAIN().entropy == pytest.approx(math.log(2) + 15 * one, abs=1e-10)
    for source in (parity(), ONE_CHAIN(), TWO_CHAINS()):
        assert source.log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("source", "model", "options", "near"),
    [
        (parity, MADE, {"hidden": (150,)}, 0.02),
        (parity, MADE, {"hidden": (150,), "orders": 2}, 0.2),
        (TWO_CHAINS, MADE, {"hidden": (100,)}, 0.05),
        (ONE_CHAIN, FVBN, {}, 0.01),
    ],
    ids=["parity", "parity, 2 orders", "two chains", "one chain"],
)
def test_nll_comes_down_to_the_entropy_and_never_under_it(source, model, options, near) -> None:
    found, source = [], source()
    model = model((1, 1, source.x.shape[1]), **options)
    optimizer = torch.optim.Adam(model.parameters(), 0.03)
    rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 1000)
    for step in range(1001):
        if step % 250 == 0:
            with torch.no_grad():
                log_prob = model.log_prob(source.x.float()).double()
                sampled = -model.log_prob(source.draw(20_000).float()).double()
            found.append(-(source.log_p.exp() * log_prob).sum().item() - source.entropy)  # of every image there can be
            assert sampled.mean() - source.entropy > -3 * sampled.std() / 20_000**0.5
            assert abs(sampled.mean() - source.entropy - found[-1]) < 4 * sampled.std() / 20_000**0.5 + 1e-9
        optimizer.zero_grad()
        model.loss(source.draw(400).float(), torch.ones(())).backward()
        optimizer.step()
        rate.step()
    assert found == sorted(found, reverse=True)
    assert found[0] > 1
    assert 0 < found[-1] < near


def test_mnist_lies_between_its_entropy_given_the_grey_image_and_that_of_independent_pixels(mnist: Dataset) -> None:
    grey, train = mnist.grey().double(), mnist.grey("train").double()
    floor = -Bernoulli().log_prob(torch.logit(grey, 1e-12), grey)  # linear in x: the mean over binarisations
    assert floor.mean().item() == pytest.approx(45.53, abs=0.01)
    assert floor.std().item() == pytest.approx(10.8, abs=0.05)
    model = FVBN(mnist.shape).double()
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.logit(train.mean(0), 1e-6))
        assert isinstance(model, Density)
        nll = -model.log_prob(grey)
    assert nll.mean().item() == pytest.approx(205.8, abs=0.05)
    assert (nll > floor).all()


# -- metrics -----------------------------------------------------------------------------------------------------------------


def test_a_collapsed_encoder_has_no_active_unit() -> None:
    e, _ = linear_evaluation(W2)
    e.data = replace(e.data, test=torch.randn(500, 5, **F64))
    weight = e.model.encoder[0].weight.data[:2] / e.model.encode(e.data.test).std(0, correction=0)[:, None]
    width = e.model.moments(e.data.test)[1][0]
    for spread, units in ((1.0, 2), (0.11, 2), (0.09, 0), (0.0, 0)):  # the threshold is 0.01 of the variance of a unit, 0.0101 of that of q
        e.model.encoder[0].weight.data[:2] = weight * spread * width[:, None]
        assert METRICS["active_units"].fn(e) == units


@pytest.mark.parametrize("k", [1, 5])
def test_density_and_coverage_of_the_same_law_have_their_expectations(k: int) -> None:
    """Density 1, coverage 1 - prod_{i=1..k} (N - i) / (2 N - i) for N of each (Naeem et al. 2020): about 0.97 for k = 5."""
    n, rows = 120, []
    for _ in range(150):
        rows.append(prdc(torch.randn(n, 8), torch.randn(n, 8), k))
    found = torch.tensor(rows, **F64)
    expected = 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))
    error = 4 * found.std(0) / len(found) ** 0.5
    assert abs(found[:, 3].mean() - expected) < error[3]
    assert abs(found[:, 2].mean() - 1) < error[2]


def test_precision_and_recall_fail_the_same_law_in_1000_dimensions_where_density_and_coverage_do_not() -> None:
    """Naeem et al. 2020 have .477, .471, 1.06, .97 for 10000 of each; this is 600 of each, against their implementation."""
    from prdc import compute_prdc

    real, fake = torch.randn(2, 600, 1000, **F64)
    found = prdc(real, fake, 5)
    assert found._asdict() == pytest.approx(compute_prdc(real.numpy(), fake.numpy(), nearest_k=5), abs=1e-9)
    assert found.precision < 0.75 and found.recall < 0.75
    assert found.density == pytest.approx(1, abs=0.3)
    assert found.coverage == pytest.approx(0.97, abs=0.03)
