"""The density of grids of codes: sums over all grids, what a code sees, samples, and its place in a sampler."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy import stats

from vae_variants.models.code_grids import CodeGrid
from vae_variants.models.fitted_samplers import held

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
