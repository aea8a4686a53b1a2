"""Quantisers, priors of codes, and the bound of a point mass, against formulas, brute force and sums over all codes."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from vae_variants.checks.fixtures import configuration, members, tiny
from vae_variants.datasets import Dataset
from vae_variants.evaluation import METRICS, Evaluation, fidelity
from vae_variants.harness.files import load_tensors, save_tensors
from vae_variants.models.base import ClosedElbo, Coded, Density, Euclidean, Finished, ScoredPosterior
from vae_variants.models.code_priors import MaskedPrior, UniformPrior
from vae_variants.models.codebooks import HierarchicalQuantizer, ResidualQuantizer, VectorQuantizer
from vae_variants.models.quantized import QuantizedVAE
from vae_variants.models.quantizers import FiniteScalar, LookupFree, one_hot, straight_through
from vae_variants.registry import UserError
from vae_variants.training.loop import FEW, Training
from vae_variants.training.population import Population
from vae_variants.variants import build
from vae_variants.variants.recipe import Recipe

T = torch.tensor(0.5, dtype=torch.float64)


def vectors(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


# -- VQ ----------------------------------------------------------------------------------------------------------------


def test_the_code_is_the_nearest_by_brute_force() -> None:
    quantizer, h = VectorQuantizer(codes=7, width=3).double(), vectors(5, 2, 3)
    quantizer.initialise(vectors(20, 2, 3))
    by_force = (h.unsqueeze(-2) - quantizer.codebook[0]).square().sum(-1).argmin(-1)
    assert torch.equal(quantizer.indices(h)[..., 0], by_force)
    assert len(by_force.unique()) > 2


def test_vq_adds_the_codebook_and_the_commitment_loss_and_passes_the_gradient_straight_through() -> None:
    quantizer, h = VectorQuantizer(codes=7, width=3, commitment=0.4).double(), vectors(5, 2, 3).requires_grad_()
    quantizer.initialise(vectors(20, 2, 3))
    z, loss = quantizer(h, T)
    e = quantizer.lookup(quantizer.indices(h))[..., 0, :]
    torch.testing.assert_close(z, e)
    torch.testing.assert_close(loss, 1.4 * (h - e).square().sum(-1).mean(-1))
    at = e.detach().requires_grad_()
    weight = vectors(5, 2, 3)
    (wanted,) = torch.autograd.grad((at.sin() * weight).sum(), at)
    (found,) = torch.autograd.grad((z.sin() * weight).sum(), h, retain_graph=True)
    torch.testing.assert_close(found, wanted)
    (to_h,), (to_e,) = torch.autograd.grad(loss.sum(), h, retain_graph=True), torch.autograd.grad(loss.sum(), quantizer.codebook)
    torch.testing.assert_close(to_h, 0.4 * 2 * (h - e) / 2)  # two positions
    pull = torch.zeros_like(to_e[0]).index_add(0, quantizer.indices(h).flatten(), (2 * (e - h) / 2).flatten(0, 1))
    torch.testing.assert_close(to_e[0], pull)


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_an_ema_step_is_a_weighted_k_means_step(memory: float) -> None:
    quantizer, h = VectorQuantizer(codes=4, width=3, ema=True, memory=memory, restart=0.0).double(), vectors(9, 2, 3)
    quantizer.initialise(h)
    quantizer(h, T)  # so that codes have weights of their own
    before, weight, index = quantizer.table()[0].clone(), quantizer.sizes[0].clone(), quantizer.indices(h).flatten()
    quantizer(h, T)
    rows, after = h.flatten(0, 1), quantizer.table()[0]
    for i in range(4):
        mine = rows[index == i]
        total = memory * weight[i] * before[i] + (1 - memory) * mine.sum(0)
        torch.testing.assert_close(after[i], total / (memory * weight[i] + (1 - memory) * len(mine)))
        torch.testing.assert_close(quantizer.sizes[0, i], memory * weight[i] + (1 - memory) * len(mine))
    if memory == 0:
        torch.testing.assert_close(after, torch.stack([rows[index == i].mean(0) for i in range(4)]))


def test_evaluation_moves_no_code() -> None:
    quantizer, h = ResidualQuantizer(codes=4, width=3).double(), vectors(9, 2, 3)
    before = quantizer.table().clone()
    quantizer.eval()(h, T)
    assert torch.equal(quantizer.table(), before)
    quantizer.train()(h, T)
    assert not torch.equal(quantizer.table(), before)


def test_a_code_that_nobody_uses_begins_anew_at_a_vector_of_the_batch_and_without_restart_stays() -> None:
    h = vectors(50, 2, 3)
    for restart, used in ((0.1, 8), (0.0, 1)):
        quantizer = VectorQuantizer(codes=8, width=3, ema=True, memory=0.5, restart=restart).double()
        quantizer.sums[:] = 100.0 + vectors(8, 3)
        quantizer.sums[0, 0] = 0.0
        far = quantizer.table()[0, 1].clone()
        for _ in range(40):
            quantizer(h, T)
        assert quantizer.table().isfinite().all() and (quantizer.sizes > 0).all()
        assert len(quantizer.indices(h).unique()) == used
        assert torch.allclose(quantizer.table()[0, 1], far) == (restart == 0)
    quantizer = VectorQuantizer(codes=2, width=3, ema=True, memory=0.0, restart=0.1).double()
    quantizer.sums[:] = torch.tensor([[[0.0, 0, 0], [1e6, 0, 0]]])
    quantizer(h, T)
    assert (quantizer.table()[0, 1] - h.flatten(0, 1)).abs().sum(-1).min() < 1e-9, "a vector of the batch"


# -- levels ------------------------------------------------------------------------------------------------------------


def test_a_level_has_the_nearest_code_to_what_is_left_and_one_level_is_vq() -> None:
    h = vectors(6, 2, 3).requires_grad_()
    one, deep = VectorQuantizer(codes=5, width=3).double(), ResidualQuantizer(codes=5, width=3, depth=1, ema=False).double()
    deep.load_state_dict(one.state_dict())
    for a, b in zip(one(h, T), deep(h, T), strict=True):
        torch.testing.assert_close(a, b)
    quantizer = ResidualQuantizer(codes=5, width=3, depth=3, ema=False).double()
    quantizer.initialise(vectors(30, 2, 3))
    left, index, loss = h.detach(), quantizer.indices(h), 0
    for level, codebook in enumerate(quantizer.codebook):
        assert torch.equal(index[..., level], torch.cdist(left, codebook).argmin(-1))
        left = left - codebook[index[..., level]]
        loss = loss + 1.25 * left.square().sum(-1).mean(-1)
    z, found = quantizer(h, T)
    torch.testing.assert_close(z, h - left)
    torch.testing.assert_close(found, loss)
    (gradient,) = torch.autograd.grad(found.sum(), quantizer.codebook)
    e = quantizer.lookup(index)
    first = torch.zeros_like(gradient[0]).index_add(0, index[..., 0].flatten(), (e[..., 0, :] - h).flatten(0, 1))
    torch.testing.assert_close(gradient[0], first)  # the levels below do not move it


def test_hrq_is_the_nearest_code_in_evaluation_and_adds_kl_and_norms() -> None:
    quantizer, h = HierarchicalQuantizer(codes=5, width=3, depth=2, kl=0.3, norm=0.7, ratio=1.5).double().eval(), vectors(6, 2, 3)
    with torch.no_grad():
        quantizer.codebook[1] *= 3  # so that some norms grow
    z, loss = quantizer(h, T)
    e = quantizer.lookup(quantizer.indices(h))
    torch.testing.assert_close(z, e.sum(-2))
    kl = torch.zeros(6, 2, dtype=torch.float64)
    for level, left in enumerate((h, h - e[..., 0, :])):
        q = torch.distributions.Categorical(logits=-torch.cdist(left, quantizer.codebook[level]).square())
        kl += math.log(5) - q.entropy()
    growth = (1.5 * e[..., 1, :].norm(dim=-1) / e[..., 0, :].norm(dim=-1)).clamp(min=1) - 1
    assert (growth > 0).any()
    torch.testing.assert_close(loss, (0.3 * kl + 0.7 * growth.square()).mean(-1))


def test_hrq_samples_codes_as_their_probabilities_say_and_drops_levels_with_those_below() -> None:
    quantizer = HierarchicalQuantizer(codes=3, width=2, depth=1, dropout=0.0).double()
    h = vectors(1, 1, 2).expand(20_000, 1, 2)
    z, _ = quantizer(h, T)
    share = one_hot(torch.cdist(z, quantizer.codebook[0]).argmin(-1)[:, 0], 3, z).mean(0)
    q = (-torch.cdist(h[0], quantizer.codebook[0]).square()).softmax(-1)[0]
    assert ((share - q).abs() < 5 * (q * (1 - q) / 20_000).sqrt()).all()
    quantizer = HierarchicalQuantizer(codes=1, width=2, depth=2, dropout=0.3).double()
    z, _ = quantizer(h, T)
    e = quantizer.codebook[:, 0]
    for value, p in ((e.sum(0), 0.7**2), (e[0], 0.7 * 0.3), (0 * e[0], 0.3)):
        share = torch.isclose(z[:, 0], value).all(-1).double().mean().item()
        assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / 20_000)


# -- without a codebook ------------------------------------------------------------------------------------------------


def test_fsq_rounds_to_as_many_levels_as_its_grid_says_and_counts_them() -> None:
    quantizer = FiniteScalar(grid=(5, 4, 2)).double()
    table, index = quantizer.table()[0], torch.arange(40)
    assert [sorted(set(column.tolist())) for column in table.mT] == [[-1, -0.5, 0, 0.5, 1], [-1, -0.5, 0, 0.5], [-1, 0]]
    assert len(table.unique(dim=0)) == quantizer.codes == 40
    torch.testing.assert_close(quantizer.lookup(index.view(40, 1, 1))[:, 0, 0], table)
    line = torch.linspace(-9, 9, 2001, dtype=torch.float64)
    h = torch.cartesian_prod(line[::50], line[::50], line[::50]).unsqueeze(1)
    found = quantizer.indices(h).flatten()
    assert torch.equal(found.unique(), index), "every code has an image"
    z, loss = quantizer(h, T)
    torch.testing.assert_close(z[:, 0], table[found])
    assert not loss.any()
    for i in range(3):
        moved = torch.zeros(2001, 1, 3, dtype=torch.float64)
        moved[:, 0, i] = line
        assert (quantizer(moved, T).z[:, 0, i].diff() >= 0).all(), "monotone"


def test_fsq_passes_the_gradient_of_the_bounded_numbers() -> None:
    quantizer, h = FiniteScalar(grid=(5, 4)).double(), vectors(3, 2, 2).requires_grad_()
    weight = vectors(3, 2, 2)
    (found,) = torch.autograd.grad((quantizer(h, T).z * weight).sum(), h)
    (wanted,) = torch.autograd.grad((quantizer.bounded(h) / torch.tensor([2.0, 2.0]) * weight).sum(), h)
    torch.testing.assert_close(found, wanted)
    with pytest.raises(UserError, match="grid=1-4 has a number of one level"):
        FiniteScalar(grid=(1, 4))


def test_lfq_takes_signs_and_its_entropies_are_those_of_a_softmax_over_all_codes() -> None:
    quantizer, h = LookupFree(bits=3, commitment=0.2, entropy=0.5, diversity=0.7, temperature=1.3).double(), vectors(6, 2, 3)
    index = quantizer.indices(h)[..., 0]
    assert torch.equal(index, ((h > 0) * torch.tensor([1, 2, 4])).sum(-1))
    table = quantizer.table()[0]
    torch.testing.assert_close(table[index], h.sign())
    q = (-(h.unsqueeze(-2) - table).square().sum(-1) / 1.3).softmax(-1).flatten(0, 1)
    sure = torch.distributions.Categorical(q).entropy().mean()
    used = torch.distributions.Categorical(q.mean(0)).entropy()
    z, loss = quantizer(h, T)
    torch.testing.assert_close(z, h.sign())
    torch.testing.assert_close(loss, 0.2 * (h - h.sign()).square().sum(-1).mean(-1) + 0.5 * (sure - 0.7 * used))
    with pytest.raises(UserError, match="bits=17 are too many codes"):
        LookupFree(bits=17)


def test_straight_through_has_the_value_of_the_code_and_the_gradient_of_the_vector() -> None:
    h, code = vectors(4).requires_grad_(), vectors(4).requires_grad_()
    z = straight_through(h, code)
    torch.testing.assert_close(z, code)
    to_h, to_code = torch.autograd.grad(z.sum(), (h, code), allow_unused=True)
    assert torch.equal(to_h, torch.ones_like(h)) and to_code is None


# -- the model ---------------------------------------------------------------------------------------------------------

KINDS = {
    "vq": "quantized-vae[positions=2,codes=3,width=2]",
    "residual": "quantized-vae[positions=1,quantizer=residual,codes=3,depth=2,width=2]",
    "fsq": "quantized-vae[positions=2,quantizer=fsq,grid=3-2]",
    "masked": "quantized-vae[positions=2,quantizer=lfq,bits=2,code_prior=masked,features=12,steps=150]",
}


def small(kind: str) -> tuple[QuantizedVAE, Tensor]:
    """A model of ten pixels in float64, finished, and test images."""
    model, x = members(KINDS[kind], tiny())
    assert isinstance(model, QuantizedVAE)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.5 * torch.randn_like(p))
    model = model.double()
    if isinstance(model, Finished):
        model.finish(tiny().as_(model.support).train.double())
    return model, x.double()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_bound_is_at_most_the_sum_over_all_codes(kind: str) -> None:
    model, x = small(kind)
    every = torch.tensor(list(itertools.product(range(model.codes), repeat=model.positions * model.depth)))
    log_p = model.code_prior.log_prob(every).double()
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-6)
    z = model.vectors(every)
    exact = (log_p[:, None] + model.log_px(x, z[:, None].expand(-1, len(x), -1))).logsumexp(0)
    bound = model.bound(x)
    assert (bound <= exact + 1e-9).all() and (exact - bound).min() < 3
    own = (every[:, None] == model.symbols(x)).all(-1).double().argmax(0)
    torch.testing.assert_close(bound, log_p[own] + model.log_px(x, z[own]))
    d = model.infer(x, 3, T)
    torch.testing.assert_close(d.log_w, bound.expand(3, -1))
    torch.testing.assert_close(d.kl, -log_p[own])
    torch.testing.assert_close(d.z, model.encode(x).expand(3, -1, -1))
    torch.testing.assert_close(model.log_prior(model.encode(x)), log_p[own])
    torch.testing.assert_close(model.decode(model.encode(x)), model.likelihood.mean(d.outputs[0]))


@torch.no_grad()
def test_the_loss_is_that_of_the_codes_and_the_quantizer() -> None:
    model, x = small("vq")
    h = model.hidden(x)
    wanted = -model.log_px(x, model.encode(x)) + model.quantizer(h, T).loss
    torch.testing.assert_close(model.loss(x, T), wanted.mean())


def test_capabilities_are_those_of_a_code() -> None:
    model, _ = small("vq")
    assert isinstance(model, Coded) and isinstance(model, ClosedElbo) and isinstance(model, Density) and not model.exact
    assert not isinstance(model, (Euclidean, ScoredPosterior, Finished)), "a uniform prior is fitted to nothing"
    assert isinstance(small("masked")[0], Finished)


def test_a_masked_prior_finds_what_depends_and_keeps_the_weights_that_held_out_codes_like() -> None:
    first = torch.randint(4, (300, 1))
    codes = torch.cat([first, first, torch.randint(4, (300, 1))], 1)
    prior = MaskedPrior(3, 4, features=16, steps=200).double()
    assert prior.log_prob(codes).mean().item() == pytest.approx(-3 * math.log(4))
    prior.fit(codes[:250], codes[250:])
    assert -prior.log_prob(codes[250:]).mean().item() == pytest.approx(2 * math.log(4), abs=0.3)
    noise = torch.randint(4, (40, 3))
    prior.fit(noise[:20], noise[20:])
    assert prior.log_prob(noise[20:]).mean() >= UniformPrior(3, 4).log_prob(noise[20:]).mean() - 1e-6, "no worse than at its start"


def test_metrics_of_codes_are_counts(digits: Dataset) -> None:
    model, _ = members("quantized-vae[positions=3,quantizer=residual,codes=5,depth=2,width=2]", digits.subset(60, 20))
    assert isinstance(model, QuantizedVAE)
    e = Evaluation(model, digits.subset(60, 20), 0, fidelity("smoke"))
    symbols = model.symbols(e.test).unflatten(-1, (3, 2))
    levels = [symbols[..., level].flatten().tolist() for level in range(2)]
    usage = sum(len(set(level)) / 5 for level in levels) / 2
    perplexity = 0.0
    for level in levels:
        f = [level.count(c) / len(level) for c in set(level)]
        perplexity += math.exp(-sum(p * math.log(p) for p in f)) / 2
    values = {name: METRICS[name].fn(e) for name in ("codebook_usage", "code_perplexity", "code_bits", "elbo", "log_likelihood")}
    assert values["codebook_usage"] == pytest.approx(usage) and values["code_perplexity"] == pytest.approx(perplexity)
    assert values["code_bits"] == pytest.approx(6 * math.log2(5))
    assert values["elbo"] == values["log_likelihood"] == pytest.approx(model.double().bound(e.test.double()).mean().item())
    absent = (
        "gap",
        "ess",
        "bound_1",
        "bound_samples",
        "pareto_bad",
        "jackknife",
        "monte_carlo_error",
        "active_units",
        "mutual_information",
    )
    assert not [name for name in absent if METRICS[name].asked_of(e)]


# -- training ----------------------------------------------------------------------------------------------------------

STATEFUL = "quantized-vae[quantizer=residual,positions=2,codes=4,depth=2,width=2]"


def training(seeds: tuple[int, ...], images: Dataset, trace: bool) -> Training:
    chosen = configuration(STATEFUL)
    recipe = Recipe(FEW if trace else 3, 20, 1e-3)
    return Training(Population(lambda: build(chosen, images), seeds), images.as_(chosen.support), recipe, "key")


@pytest.mark.parametrize("trace", [False, True], ids=["plain", "traced"])
def test_a_codebook_of_averages_is_resumed_and_stacked_bit_for_bit(trace: bool, digits: Dataset, tmp_path) -> None:
    images = digits.subset(60, 20)
    whole, second, alone = (training(seeds, images, trace) for seeds in ((0, 3), (0, 3), (3,)))
    start = whole.population.state()["quantizer.sums"].clone()
    whole.run_epoch()
    save_tensors(tmp_path / "kept", whole.state())
    second.restore(load_tensors(tmp_path / "kept") or {})
    for each in (whole, second, alone, alone):
        each.run_epoch()
    for key, tensor in whole.state().items():
        assert key == "seconds" or torch.equal(tensor, second.state()[key]), key
    for key, tensor in whole.population.state().items():
        torch.testing.assert_close(tensor[1], alone.population.state()[key][0], rtol=1e-4, atol=1e-5, msg=key)
    assert not torch.allclose(whole.population.state()["quantizer.sums"], start)
    assert whole.how.startswith("traced" if trace else "stacked")
