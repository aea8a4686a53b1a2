"""Quantisers against formulas and brute force."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vae_variants.models.codebooks import HierarchicalQuantizer, ResidualQuantizer, VectorQuantizer
from vae_variants.models.quantizers import FiniteScalar, LookupFree, one_hot, straight_through
from vae_variants.registry import UserError

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
