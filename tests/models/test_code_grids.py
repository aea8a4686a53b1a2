"""The density of grids of codes: sums over all grids, what a code sees, samples, and its place in a sampler."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
from scipy import stats

from vae_variants.checks.fixtures import model_of, tiny
from vae_variants.models.code_grids import CodeGrid
from vae_variants.models.code_priors import PixelCNNPrior
from vae_variants.models.codebooks import ResidualQuantizer, VectorQuantizer
from vae_variants.models.deep_networks import deep_conv
from vae_variants.models.fitting import held
from vae_variants.models.likelihoods import Bernoulli
from vae_variants.models.quantized import QuantizedVAE
from vae_variants.registry import UserError

ALL = torch.tensor(list(itertools.product(range(3), repeat=4))).reshape(-1, 2, 2)


def built(categories: int = 3, height: int = 2, width: int = 2) -> CodeGrid:
    grid = CodeGrid(categories, height, width, features=5, layers=2, kernel=3).double()
    with torch.no_grad():
        for p in grid.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return grid


def test_it_sums_to_one_over_all_grids() -> None:
    with torch.no_grad():
        log_p = built().log_prob(ALL)
    assert log_p.shape == (81,)
    assert log_p.logsumexp(0).item() == pytest.approx(0, abs=1e-9)
    assert log_p.std() > 0.1


def test_a_code_sees_those_before_it_alone() -> None:
    grid, codes = built(4, 2, 4), torch.randint(4, (2, 4))
    with torch.no_grad():
        logits = grid(codes[None])[0].flatten(0, 1)
        for i in range(8):
            other = codes.flatten().clone()
            other[i] = (other[i] + 1) % 4
            changed = (grid(other.view(1, 2, 4))[0].flatten(0, 1) != logits).any(-1)
            assert changed.tolist() == [j > i for j in range(8)]


def test_samples_have_the_frequencies_of_the_density_with_kept_features_and_without() -> None:
    grid = built()
    with torch.no_grad():
        expected = 20_000 * grid.log_prob(ALL).exp()
    torch.manual_seed(3)
    drawn = grid.sample(20_000)
    torch.manual_seed(3)
    assert torch.equal(grid.sample(20_000, kept=False), drawn)
    counts = torch.bincount((drawn.flatten(1) @ torch.tensor([27, 9, 3, 1])), minlength=81).double()
    rare = expected < 5
    cells = [torch.cat([t[~rare], t[rare].sum()[None]]).numpy() for t in (counts, expected)]
    cells = [each[cells[1] > 0] for each in cells]
    assert stats.chisquare(*cells).pvalue > 1e-3


def test_its_numbers_can_be_buffers_of_a_sampler() -> None:
    grid = CodeGrid(3, 2, 2)
    before = grid.log_prob(ALL)
    assert before.shape == (81,)
    assert [*held(grid).parameters()] == []
    torch.testing.assert_close(grid.log_prob(ALL), before.detach())


def test_it_learns_codes_that_repeat_the_first() -> None:
    grid = CodeGrid(3, 2, 2, features=6, layers=1, kernel=3)
    codes = torch.arange(3)[:, None, None].expand(-1, 2, 2)
    optimizer = torch.optim.Adam(grid.parameters(), 0.02)
    for _ in range(100):
        loss = -grid.log_prob(codes).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert 1.0986 - 1e-3 < loss.item() < 1.25  # log 3 is the entropy


# -- the grid of a network ---------------------------------------------------------------------------------------------


def built_for(shape: tuple[int, int, int], **options: object) -> QuantizedVAE:
    values = {"network": "conv-grid", "positions": 0, "hidden": (6,), "code_prior": PixelCNNPrior}
    return QuantizedVAE(shape, Bernoulli(), VectorQuantizer(codes=3, width=2), **values | options)


@pytest.mark.parametrize(
    ("shape", "options", "size"),
    [
        ((1, 28, 28), {}, (7, 7)),
        ((1, 8, 32), {}, (2, 8)),
        ((3, 30, 9), {}, (8, 3)),
        ((1, 8, 32), {"positions": 32}, (2, 16)),
        ((1, 8, 32), {"network": deep_conv(width=4, grid=True)}, (1, 4)),
        ((1, 8, 8), {"network": "mlp", "positions": 12}, (3, 4)),
    ],
)
def test_a_prior_has_the_grid_of_the_network_on_images_of_any_size(shape, options, size) -> None:
    model = built_for(shape, **options)
    assert (model.code_prior.size, model.positions) == (size, size[0] * size[1])
    x = torch.rand(5, *shape).round().flatten(1)
    assert model.symbols(x).shape == (5, size[0] * size[1])
    assert model.infer(x, 1, torch.ones(())).log_w.shape == (1, 5)


def test_levels_of_a_position_stand_side_by_side() -> None:
    residual = ResidualQuantizer(codes=3, depth=2, width=2)
    assert QuantizedVAE((1, 12, 8), Bernoulli(), residual, PixelCNNPrior, positions=0, network="conv-grid").code_prior.size == (3, 4)


@torch.no_grad()
def test_a_symbol_of_an_elongated_grid_depends_on_the_cell_above() -> None:
    prior = built_for((1, 8, 32), code_prior=partial(PixelCNNPrior, layers=1, kernel=3)).code_prior
    assert isinstance(prior, PixelCNNPrior)
    for buffer in prior.network.buffers():
        buffer.add_(0.3 * torch.randn_like(buffer))
    indices = torch.zeros(1, 16, dtype=torch.long)
    before = prior.log_p(prior.network, indices)
    other = indices.clone()
    other[0, 4] = 1
    changed = (prior.log_p(prior.network, other) != before).any(-1).view(2, 8)
    assert changed[0].nonzero().flatten().tolist() == [5, 6], "to the right of it"
    assert changed[1].nonzero().flatten().tolist() == [2, 3, 4, 5, 6], "around the one below it"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("network=conv-grid,positions=4", "7x7 cells for these images, which positions=4 does not fill"),
        ("network=mlp,positions=0", "this one has none"),
    ],
)
def test_positions_that_are_no_grid_are_refused_when_a_model_is_built(options: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        model_of(f"quantized-vae[{options}]", tiny(28, 28))
