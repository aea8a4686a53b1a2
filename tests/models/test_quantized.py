"""Models with codes: the bound of a point mass against sums over all codes, priors of codes, metrics, and state in training."""

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
from vae_variants.models.grid_networks import CellMajor, Cells, grid_decoder
from vae_variants.models.quantized import QuantizedVAE
from vae_variants.training.loop import FEW, Training
from vae_variants.training.population import Population
from vae_variants.variants import build
from vae_variants.variants.recipe import Recipe

T = torch.tensor(0.5, dtype=torch.float64)


def vectors(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


# -- the model ---------------------------------------------------------------------------------------------------------

KINDS = {
    "vq": "quantized-vae[positions=2,codes=3,width=2]",
    "residual": "quantized-vae[positions=1,quantizer=residual,codes=3,depth=2,width=2]",
    "fsq": "quantized-vae[positions=2,quantizer=fsq,grid=3-2]",
    "masked": "quantized-vae[positions=2,quantizer=lfq,bits=2,code_prior=masked,features=12,steps=150]",
    "pixelcnn": "quantized-vae[positions=4,quantizer=lfq,bits=1,code_prior=pixelcnn,features=6,steps=100]",
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
    prior = MaskedPrior((1, 3), 4, features=16, steps=200).double()
    assert prior.log_prob(codes).mean().item() == pytest.approx(-3 * math.log(4))
    prior.fit(codes[:250], codes[250:])
    assert -prior.log_prob(codes[250:]).mean().item() == pytest.approx(2 * math.log(4), abs=0.3)
    noise = torch.randint(4, (40, 3))
    prior.fit(noise[:20], noise[20:])
    assert prior.log_prob(noise[20:]).mean() >= UniformPrior((1, 3), 4).log_prob(noise[20:]).mean() - 1e-6, "no worse than at its start"


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


@torch.no_grad()
def test_positions_of_a_grid_see_and_make_the_image_around_them(digits: Dataset) -> None:
    model, x = members("quantized-vae[network=conv-grid,positions=4,codes=5,width=2]", digits.subset(60, 20))
    assert isinstance(model, QuantizedVAE)
    x = x[:1].clone()
    before, other = model.hidden(x), x.unflatten(-1, (8, 8)).clone()
    other[:, 0, 0] = 1 - other[:, 0, 0]  # the corner of the first cell
    assert (model.hidden(other.flatten(1)) != before).any(-1).tolist() == [[True, False, False, False]]
    z = torch.zeros(1, 32)
    z[0, -1] = 1
    decoder = grid_decoder(32, (1, 16, 16), 1, (8,), "silu")
    moved = (decoder(z) != decoder(torch.zeros(1, 32))).unflatten(-1, (16, 16))[0]
    assert moved[12:, 12:].all() and not moved[:4].any() and not moved[:, :4].any(), "the last of 16 cells"
    h = torch.randn(2, 3, 4, 5)
    assert torch.equal(Cells((4, 5))(CellMajor()(h)), h)


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
